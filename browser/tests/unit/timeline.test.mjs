import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Timeline } from '../../../www/lib/timeline.js';
import { rows } from '../../../www/lib/rows.js';

const DAY_MS = 86_400_000;
const NOON_MS = new Date(2026, 4, 5, 12).getTime();

function message(seq, more = {}) {
  return { seq, id: `id-${seq}`, channel: 'general', author: 'bob', device: 'd', sent_at_ms: NOON_MS + seq, kind: 'text', text: `text ${seq}`, hosted: false, ...more };
}

function timelineOf(...seqs) {
  const timeline = new Timeline();
  timeline.insert(seqs.map((seq) => message(seq)));
  return timeline;
}

function scene(timeline, more = {}) {
  return rows({ timeline, unsent: [], me: 'alice', label: 'general', direct: false, dividerAfter: 0, gapsFailed: false, now_ms: NOON_MS, ...more });
}

const kinds = (all) => all.map((row) => row.type).join(' ');

test('whatever the order and however often, each message is there once, in order', () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  let state = seed;
  const chance = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 50; round += 1) {
    const timeline = new Timeline();
    const here = new Set();
    for (let step = 0; step < 30; step += 1) {
      const part = Array.from({ length: chance(6) }, () => 1 + chance(40));
      const fresh = timeline.insert(part.map((seq) => message(seq))).map(({ seq }) => seq);
      const expected = [...new Set(part)].filter((seq) => !here.has(seq)).sort((a, b) => a - b);
      assert.deepEqual(fresh, expected, `seed ${seed}`);
      for (const seq of part) here.add(seq);
    }
    const all = [...here].sort((a, b) => a - b);
    assert.deepEqual(timeline.messages.map(({ seq }) => seq), all, `seed ${seed}`);
    const missing = timeline.gaps().flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
    const span = Array.from({ length: all.at(-1) - all[0] + 1 }, (_, i) => all[0] + i);
    assert.deepEqual(missing, span.filter((seq) => !here.has(seq)), `seed ${seed}`);
  }
});

test('what is known to exist beyond the newest message is a gap', () => {
  const timeline = timelineOf(3, 4);
  timeline.reach(6);
  assert.deepEqual(timeline.gaps(), [{ from: 5, to: 6 }]);
  assert.equal(timeline.hasOlder, true);
});

test('the copy of the log takes the place of what the page made itself', () => {
  const timeline = new Timeline();
  timeline.insert([message(1, { provisional: true, sent_at_ms: 1 })]);
  assert.deepEqual(timeline.insert([message(1)]), []);
  assert.equal(timeline.messages[0].sent_at_ms, NOON_MS + 1);
});

test('a gap is shown where it is, and a new heading after it', () => {
  const all = scene(timelineOf(1, 2, 5));
  assert.equal(kinds(all), 'start day message message gap day message');
  assert.deepEqual(all[4].gap, { from: 3, to: 4 });
  assert.equal(all[3].grouped, true);
  assert.equal(all[6].grouped, false);
});

test('the mark for new messages stands before the first unread one of somebody else', () => {
  const timeline = timelineOf(1, 2, 4);
  timeline.insert([message(3, { author: 'alice' })]);
  assert.equal(kinds(scene(timeline, { dividerAfter: 2 })), 'start day message message message unread message');
  assert.equal(kinds(scene(timeline, { dividerAfter: 4 })), 'start day message message message message');
});

test('no mark while the first unread message is further up than what is here', () => {
  assert.equal(kinds(scene(timelineOf(8, 9), { dividerAfter: 3 })), 'day message message');
});

test('days are told apart and named', () => {
  const timeline = new Timeline();
  timeline.insert([message(1, { sent_at_ms: NOON_MS - DAY_MS }), message(2)]);
  const labels = scene(timeline).filter((row) => row.type === 'day').map((row) => row.label);
  assert.deepEqual(labels, ['Yesterday', 'Today']);
});

test('messages of one author are grouped unless signed differently or long apart', () => {
  const timeline = new Timeline();
  timeline.insert([
    message(1),
    message(2),
    message(3, { hosted: true }),
    message(4, { hosted: true, sent_at_ms: NOON_MS + 10 * 60_000 }),
    message(5, { author: 'carol', sent_at_ms: NOON_MS + 10 * 60_000 }),
  ]);
  const grouped = scene(timeline).filter((row) => row.type === 'message').map((row) => row.grouped);
  assert.deepEqual(grouped, [false, true, false, false, false]);
});

test('a clock that is wrong by centuries breaks nothing', () => {
  const timeline = new Timeline();
  timeline.insert([message(1, { sent_at_ms: 2 ** 63 }), message(2, { sent_at_ms: -1 }), message(3, { sent_at_ms: Number.NaN })]);
  assert.equal(scene(timeline).filter((row) => row.type === 'message').length, 3);
});
