import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outbox } from '../../../www/lib/outbox.js';
import { Problem } from '../../../www/lib/api.js';

/** As the browser's storage, for one test. */
class Memory {
  #items = new Map();
  get length() {
    return this.#items.size;
  }
  key(index) {
    return [...this.#items.keys()][index] ?? null;
  }
  getItem(name) {
    return this.#items.get(name) ?? null;
  }
  setItem(name, value) {
    this.#items.set(name, value);
  }
  removeItem(name) {
    this.#items.delete(name);
  }
}

/** An outbox whose server answers what `answer` decides, at the moment the test says. */
function desk(storage, answer) {
  const sent = [];
  const stored = [];
  let settle;
  const outbox = new Outbox('alice', {
    storage,
    send: (channel, text, key) =>
      new Promise((resolve, reject) => {
        sent.push({ channel, text, key });
        settle = () => {
          const outcome = answer(text);
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
        };
      }),
    stored: (unsent) => stored.push(unsent.text),
    changed: () => {},
    signedOut: () => stored.push('signed out'),
  });
  const answered = async () => {
    settle();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { outbox, sent, stored, answered };
}

const states = (outbox) => outbox.of('general').map((entry) => `${entry.text}: ${entry.state}`);

test('messages of a channel go one after another and leave once they are stored', async () => {
  const { outbox, sent, stored, answered } = desk(new Memory(), () => ({ id: 'x', seq: 1 }));
  outbox.add('general', 'one');
  outbox.add('general', 'two');
  assert.deepEqual(states(outbox), ['one: sending', 'two: queued']);
  await answered();
  assert.deepEqual(states(outbox), ['two: sending']);
  await answered();
  assert.deepEqual(stored, ['one', 'two']);
  assert.equal(new Set(sent.map(({ key }) => key)).size, 2);
  assert.match(sent[0].key, /^[0-9a-f]{32}$/u);
});

test('without an answer a message stays queued and keeps its key, also over a reload', async () => {
  const storage = new Memory();
  const first = desk(storage, () => new Problem('away', 0));
  first.outbox.add('general', 'one');
  first.outbox.add('general', 'two');
  await first.answered();
  assert.deepEqual(states(first.outbox), ['one: queued', 'two: queued']);
  first.outbox.stop();
  const again = desk(storage, () => ({ id: 'x', seq: 1 }));
  assert.deepEqual(states(again.outbox), ['one: queued', 'two: queued']);
  again.outbox.flush();
  assert.equal(again.sent[0].key, first.sent[0].key);
  await again.answered();
  await again.answered();
  assert.equal(storage.length, 0);
});

test('what the server refuses waits for a person and holds nothing else up', async () => {
  const refusing = (text) => (text === 'bad' ? new Problem('Too long.', 413) : { id: 'x', seq: 1 });
  const { outbox, stored, answered } = desk(new Memory(), refusing);
  outbox.add('general', 'bad');
  outbox.add('general', 'good');
  await answered();
  assert.deepEqual(states(outbox), ['bad: refused', 'good: sending']);
  assert.equal(outbox.of('general')[0].reason, 'Too long.');
  await answered();
  assert.deepEqual(stored, ['good']);
  outbox.retry(outbox.of('general')[0].key);
  assert.deepEqual(states(outbox), ['bad: sending']);
  await answered();
  outbox.discard(outbox.of('general')[0].key);
  assert.deepEqual(states(outbox), []);
});

test('a message that the log shows before its answer came is shown once', async () => {
  const { outbox, answered } = desk(new Memory(), () => ({ id: 'x', seq: 1 }));
  outbox.add('general', 'same');
  outbox.add('general', 'same');
  const seen = { id: 'x', channel: 'general', text: 'same', sent_at_ms: Date.now() };
  outbox.see(seen);
  outbox.see(seen);
  assert.deepEqual(states(outbox), ['same: queued']);
  await answered();
  assert.deepEqual(states(outbox), ['same: sending']);
});

test('the end of the session stops sending and loses nothing', async () => {
  const storage = new Memory();
  const { outbox, sent, stored, answered } = desk(storage, () => new Problem('log in', 401));
  outbox.add('general', 'one');
  await answered();
  outbox.add('general', 'two');
  assert.equal(sent.length, 1);
  assert.deepEqual(stored, ['signed out']);
  assert.equal(storage.length, 2);
});

test('damaged or foreign entries in the storage are left alone', () => {
  const storage = new Memory();
  storage.setItem('weaprous/outbox/alice/1', '{"key":');
  storage.setItem('weaprous/outbox/alice/2', '{"key":"2","channel":"general","text":5,"written_at_ms":1}');
  storage.setItem('weaprous/outbox/bob/3', '{"key":"3","channel":"general","text":"x","written_at_ms":1}');
  storage.setItem('else', 'x');
  assert.deepEqual(states(desk(storage, () => null).outbox), []);
  assert.equal(storage.length, 4);
});
