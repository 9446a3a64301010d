/**
 * Runs all tests: `npm test`, or `npm test -- outage` for the files whose name contains a word.
 * `WEAPROUS_BIN` names the binary; without it the debug build of this repository is tested.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binary } from './support/server.mjs';

const folder = fileURLToPath(new URL('.', import.meta.url));
const wanted = process.argv.slice(2);

if (!existsSync(binary)) {
  console.error(`${binary} is not there: run \`cargo build -p cli\` first, or set WEAPROUS_BIN`);
  process.exit(1);
}

const files = ['.', 'unit']
  .flatMap((part) => readdirSync(join(folder, part)).map((name) => join(folder, part, name)))
  .filter((file) => file.endsWith('.test.mjs') && (wanted.length === 0 || wanted.some((word) => file.includes(word))));

const args = ['--test', '--import', join(folder, 'support/www-modules.mjs'), ...files];
spawn(process.execPath, args, { stdio: 'inherit' }).on('close', (code) => process.exit(code ?? 1));
