import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainLine, segments } from '../../../www/lib/text.js';

/** Writes segments as a person would see them: links in brackets, hidden characters by their number. */
function shown(text) {
  return segments(text)
    .map((part) => (part.type === 'link' ? `[${part.text}]` : part.type === 'hidden' ? `<${part.code}>` : part.text))
    .join('');
}

test('web addresses become links, the sentence around them does not', () => {
  const cases = {
    'see https://a.example/b?c=d#e.': 'see [https://a.example/b?c=d#e].',
    '(https://a.example/x_(y))': '([https://a.example/x_(y)])',
    'http://localhost:8080/, really': '[http://localhost:8080/], really',
    '"https://a.example"': '"[https://a.example]"',
    'HTTPS://A.EXAMPLE!': '[HTTPS://A.EXAMPLE]!',
    'https://a.example https://b.example': '[https://a.example] [https://b.example]',
    'https://bücher.example/ü': '[https://bücher.example/ü]',
  };
  for (const [text, expect] of Object.entries(cases)) assert.equal(shown(text), expect);
});

test('nothing else becomes a link', () => {
  const cases = [
    'javascript:alert(1)',
    'data:text/html,<b>',
    'ftp://a.example',
    'https://',
    'https://:80/',
    'https://bank.example@evil.example/',
    'xhttps://a.example',
    `https://a.example/${'x'.repeat(3000)}`,
  ];
  for (const text of cases) assert.equal(shown(text), text);
});

test('characters that hide or reorder are spelled out, also inside addresses', () => {
  const cases = {
    'photo\u202egpj.exe': 'photo<U+202E>gpj.exe',
    'a\u0000b\u0007c\u001b[2J': 'a<U+0000>b<U+0007>c<U+001B>[2J',
    'a\u200bb\ufeffc\u2066d\u2069': 'a<U+200B>b<U+FEFF>c<U+2066>d<U+2069>',
    'https://a.example/\u202egpj.exe': '[https://a.example/]<U+202E>gpj.exe',
    'hidden\u{e0041}\u{e0042}': 'hidden<U+E0041><U+E0042>',
    'two\r\nlines\tand a tab': 'two\nlines\tand a tab',
  };
  for (const [text, expect] of Object.entries(cases)) assert.equal(shown(text), expect);
});

test('scripts and emoji stay whole', () => {
  const cases = ['שלום עולם', '👩\u200d💻', 'می\u200cخواهم', '🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}', '漢字 é'];
  for (const text of cases) assert.deepEqual(segments(text), [{ type: 'text', text }]);
});

test('a title is one harmless line', () => {
  assert.equal(plainLine('a\n b\u202ec  https://d.example '), 'a b c https://d.example');
});
