/** The real binary: `weaprous up --demo` on free ports, and terminal clients in line mode. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Lines } from './process.mjs';

export const binary =
  process.env.WEAPROUS_BIN ?? fileURLToPath(new URL('../../../target/debug/weaprous', import.meta.url));

/** A folder that goes away with the tests. */
export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'weaprous-browser-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A server with its data; it can be killed and started again at the same addresses. */
export class Server {
  #folder;
  #further;
  #process;

  /**
   * @param {string} folder where its data lies
   * @param {string[]} further arguments
   */
  constructor(folder = temporaryFolder(), further = []) {
    this.#folder = folder;
    this.#further = further;
  }

  /** Starts it and waits until it prints its addresses. */
  async start() {
    const port = (url) => (url === undefined ? '0' : new URL(url).port);
    this.#process = new Lines(binary, [
      ...['up', '--demo', '--data-dir', join(this.#folder, 'server')],
      ...['--proxy-port', port(this.page)],
      ...['--backend-port', port(this.backend)],
      ...['--tracker-port', port(this.tracker)],
      ...this.#further,
    ]);
    this.page = await this.#address('page');
    this.backend = await this.#address('backend');
    this.tracker = await this.#address('tracker');
    return this;
  }

  kill() {
    return this.#process.kill();
  }

  /**
   * A terminal client in line mode that is linked to this server.
   * @param {string} name
   * @param {string[]} further
   */
  async terminal(name, ...further) {
    const terminal = new Terminal(binary, [
      ...['chat', '--username', name, '--plain', '--listen', '--verbose'],
      ...['--peer-ip', '127.0.0.1', '--peer-port', '0', '--tracker', this.tracker],
      ...['--data-dir', join(this.#folder, `chat-${name}`), ...further],
    ]);
    await terminal.line('that it knows its channel', (line) => line.startsWith('* ') && line.includes('general'));
    return terminal;
  }

  async #address(label) {
    const start = new RegExp(`^\\s*${label}\\s+(https?://\\S+)`, 'u');
    const line = await this.#process.line(`the address of ${label}`, (each) => start.test(each));
    return start.exec(line)[1];
  }
}

export class Terminal extends Lines {
  /**
   * Waits for a message and says how it came.
   * @param {string} channel
   * @param {string} author
   * @param {string} text
   */
  sees(channel, author, text) {
    const start = `[${channel}] ${author}: ${text} (`;
    return this.line(`"${start}"`, (line) => line.startsWith(start));
  }
}
