/** HTTP/2 as a real browser speaks it: the chat's live page, and a WebSocket inside the page's own connection. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, message, openGeneral, person, signUp, soon, texts, write } from './support/browser.mjs';
import { freePort, Lines } from './support/process.mjs';
import { binary, Server, temporaryFolder } from './support/server.mjs';

/** Whoever opens a WebSocket proves with this that it has read the offer (RFC 6455 §1.3). */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const OPCODE_TEXT = 0x81;
const OPCODE_CLOSE = 0x88;
/** The certificates are those of `weaprous cert`, which no browser knows. */
const TRUSTING = { ignoreHTTPSErrors: true };

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

/** By which protocol each thing came that the page has loaded. */
function protocols(page) {
  return page.evaluate(() => {
    const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
    return entries.map((entry) => [new URL(entry.name).pathname, /** @type {any} */ (entry).nextHopProtocol]);
  });
}

test('two browsers chat over HTTP/2, live, and everything comes that way', async () => {
  const server = await new Server(temporaryFolder(), ['--tls', '--tls-port', '0']).start();
  try {
    assert.match(server.page, /^https:/u);
    const people = [];
    for (const name of ['alice', 'bob']) {
      const one = await person(browser, TRUSTING);
      await signUp(one.page, server.page, name);
      await openGeneral(one.page, server.page);
      people.push(one);
    }
    const [alice, bob] = people;
    await write(alice.page, 'over one connection');
    await soon(message(bob.page, 'over one connection').waitFor());
    await write(bob.page, 'and back');
    await soon(message(alice.page, 'and back').waitFor());
    assert.deepEqual((await texts(alice.page)).slice(-2), ['over one connection', 'and back']);

    const came = await protocols(alice.page);
    assert.ok(came.length > 5, `${came.length} resources`);
    assert.deepEqual(came.filter(([, protocol]) => protocol !== 'h2'), []);
    for (const one of people) {
      assert.deepEqual(one.troubles, []);
      await one.context.close();
    }
  } finally {
    await server.kill();
  }
});

test('a WebSocket of the page is a stream of its HTTP/2 connection', async () => {
  const folder = temporaryFolder();
  execFileSync(binary, ['cert', '--lan', '--data-dir', folder]);
  const upstream = await echoing();
  const port = await freePort();
  const config = join(folder, 'proxy.conf');
  const log = (name) => join(folder, 'tls', name);
  writeFileSync(
    config,
    `listen 127.0.0.1:${port} tls { certificate ${log('lan.crt')} key ${log('lan.key')}; }
     access_log stdout format=json;
     host default { proxy_pass http://127.0.0.1:${upstream.address().port}; }`,
  );
  const proxy = new Lines(binary, ['proxy', '--config', config]);
  try {
    await proxy.line('its address', (line) => line.includes('https://'));
    const { page, context, troubles } = await person(browser, TRUSTING);
    await page.goto(`https://localhost:${port}/`);
    assert.deepEqual(await protocols(page), [['/', 'h2']]);
    const heard = await page.evaluate(
      () =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`wss://${location.host}/echo`);
          const heard = [];
          socket.onopen = () => socket.send('one');
          socket.onerror = () => reject(new Error('the socket failed'));
          socket.onmessage = ({ data }) => {
            heard.push(data);
            if (heard.length === 1) socket.send('two, ' + 'x'.repeat(100));
            else socket.close();
          };
          socket.onclose = ({ wasClean }) => resolve([...heard, wasClean]);
        }),
    );
    assert.deepEqual(heard, ['one', 'two, ' + 'x'.repeat(100), true]);
    // The log says how the proxy was spoken to: one connection, and no upgrade of HTTP/1.1.
    const line = JSON.parse(await proxy.line('the WebSocket', (each) => each.startsWith('{') && each.includes('"/echo"')));
    assert.equal(line.version, 'HTTP/2.0', JSON.stringify(line));
    assert.deepEqual(troubles, []);
    await context.close();
  } finally {
    await proxy.kill();
    upstream.closeAllConnections();
    upstream.close();
  }
});

/** A page, and a WebSocket that sends back what it gets (short messages only, each in one packet). */
async function echoing() {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><html lang="en"><title>echo</title><link rel="icon" href="data:,">');
  });
  server.on('upgrade', (request, socket) => {
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + WEBSOCKET_GUID).digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    socket.on('data', (frame) => {
      const content = Buffer.from(frame.subarray(6).map((byte, at) => byte ^ frame[2 + (at % 4)]));
      const opcode = frame[0] === OPCODE_CLOSE ? OPCODE_CLOSE : OPCODE_TEXT;
      socket.write(Buffer.concat([Buffer.from([opcode, content.length]), content]));
      if (opcode === OPCODE_CLOSE) socket.end();
    });
    socket.on('error', () => {}); // the proxy is killed at the end
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', () => listening(undefined)));
  return server;
}
