import assert from 'node:assert/strict';
import { test } from 'node:test';
import { channelLabel, channelName, channelOfFragment, directChannel, fragment, userName } from '../../../www/lib/names.js';

test('names are folded, and what is none is refused', () => {
  const cases = [
    ['General', 'general'],
    [' #music ', 'music'],
    ['a.b-c_d', 'a.b-c_d'],
    ['x'.repeat(64), 'x'.repeat(64)],
    ['x'.repeat(65), null],
    ['', null],
    ['.hidden', null],
    ['two words', null],
    ['größe', null],
    ['a\u202eb', null],
  ];
  for (const [typed, expect] of cases) assert.equal(channelName(typed), expect, typed);
  assert.equal(userName('@Bob'), 'bob');
  assert.equal(userName('x'.repeat(33)), null);
});

test('a direct channel is the same from both sides', () => {
  assert.equal(directChannel('bob', 'alice'), '@alice+bob');
  assert.equal(channelLabel('@alice+bob', 'alice'), 'bob');
  assert.equal(channelLabel('@alice+bob', 'bob'), 'alice');
});

test('the page’s address names a channel and back', () => {
  for (const channel of ['general', '@alice+bob']) {
    assert.equal(channelOfFragment(fragment(channel, 'alice'), 'alice'), channel);
  }
  for (const part of ['', '#', '#@alice', '#@', '#<b>']) assert.equal(channelOfFragment(part, 'alice'), null, part);
});
