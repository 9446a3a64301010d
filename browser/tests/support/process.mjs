/** A child process whose lines can be waited for. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

/** How long any single line may take. Far above what is needed: it ends a broken run, it measures nothing. */
const LINE_DEADLINE_MS = 30_000;

/** A port that was free a moment ago: a configuration file cannot ask for any free one. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  server.close();
  await once(server, 'close');
  return port;
}

export class Lines {
  #seen = [];
  #waiting = new Set();

  /**
   * @param {string} program
   * @param {string[]} args
   */
  constructor(program, args) {
    this.name = args.slice(0, 3).join(' ');
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.ended = once(this.child, 'close');
    this.child.stdin.on('error', () => {}); // it ended before it read everything
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#heard(line));
    }
    this.child.on('close', () => [...this.#waiting].forEach((waiting) => waiting()));
  }

  /** Everything it printed so far. */
  get text() {
    return this.#seen.join('\n');
  }

  /**
   * The first line, earlier or to come, for which `wanted` says yes.
   * @param {string} what for the message when it does not come
   * @param {(line: string) => boolean} wanted
   * @returns {Promise<string>}
   */
  line(what, wanted) {
    const earlier = this.#seen.find(wanted);
    if (earlier !== undefined) return Promise.resolve(earlier);
    return new Promise((resolve, reject) => {
      const waiting = (line) => {
        const found = line !== undefined && wanted(line);
        if (line !== undefined && !found) return;
        clearTimeout(deadline);
        this.#waiting.delete(waiting);
        if (found) resolve(line);
        else reject(new Error(`${this.name} did not print ${what}; it printed:\n${this.text}`));
      };
      const deadline = setTimeout(waiting, LINE_DEADLINE_MS);
      this.#waiting.add(waiting);
    });
  }

  /** How many of the lines printed so far satisfy `wanted`. */
  count(wanted) {
    return this.#seen.filter(wanted).length;
  }

  /** @param {string} line */
  type(line) {
    this.child.stdin.write(`${line}\n`);
  }

  /** Ends it as a power cut would. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  #heard(line) {
    this.#seen.push(line);
    for (const waiting of [...this.#waiting]) waiting(line);
  }
}
