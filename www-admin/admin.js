/**
 * The admin page: asks for the status once a second, shows it, and passes orders on. What it shows comes from the
 * configuration and reaches the page through `textContent` alone.
 */
import { Chart } from './chart.js';
import { History, sum } from './history.js';
import { bytes, duration, milliseconds, percent, perSecond, short } from './show.js';

const POLL_MS = 1_000;
/** How long an answer may take before it is trouble. */
const PATIENCE_MS = 5_000;

/** @param {string} selector */
const one = (selector) => /** @type {HTMLElement} */ (document.querySelector(selector));
const trouble = one('#trouble');
const said = one('#said');
const pause = /** @type {HTMLButtonElement} */ (one('#pause'));
const confirmation = /** @type {HTMLDialogElement} */ (one('#confirm'));
const key = /** @type {HTMLFormElement} */ (one('#key'));

/** @type {Map<string, History>} */
const histories = new Map();
let isPaused = false;
/** @type {number | undefined} */
let timer;

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem('admin-token');
  if (token) headers.set('authorization', `Bearer ${token}`);
  const response = await fetch(path, { ...options, headers, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
  if (response.status === 401) {
    key.hidden = false;
    one('#token').focus();
    throw new Error('the token is missing or wrong');
  }
  key.hidden = true;
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response.json();
}

async function poll() {
  clearTimeout(timer);
  try {
    show(await ask('/api/status'));
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `The proxy does not answer: ${error instanceof Error ? error.message : error}. Trying again.`;
    trouble.hidden = false;
  }
  if (!isPaused && key.hidden) timer = setTimeout(poll, POLL_MS);
}

/** @param {any} status as `/api/status` gives it */
function show(status) {
  const now = status.now_ms;
  const facts = [`version ${status.version}`, `up for ${duration(now / 1000 - status.started_at_s)}`];
  if (status.reloads > 0) facts.push(`reloaded ${duration(now / 1000 - status.reloaded_at_s)} ago`);
  if (status.reloads_refused > 0) facts.push(`${status.reloads_refused} reloads refused`);
  if (status.log_dropped > 0) facts.push(`${short(status.log_dropped)} log lines lost`);
  one('#facts').textContent = facts.join(' · ');

  const all = remember('all', sum(status.routes), status);
  showCharts(all, status);
  showRows(one('#routes tbody'), status.routes.map((/** @type {any} */ route) => routeRow(route, status)));
  showRows(one('#servers tbody'), status.upstreams.flatMap((/** @type {any} */ upstream) => upstreamRows(upstream, status)));
}

/**
 * @param {string} name
 * @param {any} counts
 * @param {any} status
 */
function remember(name, counts, status) {
  const history = histories.get(name) ?? new History();
  histories.set(name, history);
  if (history.samples.at(-1)?.at !== status.now_ms) history.add({ at: status.now_ms, counts }, status.edges_ms);
  return history;
}

/** @type {Map<string, { chart: Chart, value: HTMLElement, most: HTMLElement, inFlight?: { at: number, value: number }[] }>} */
const charts = new Map();
/** @type {{ at: number, value: number }[]} */
const inFlight = [];

/**
 * @param {History} all
 * @param {any} status
 */
function showCharts(all, status) {
  const now = status.now_ms;
  const open = status.routes.reduce((/** @type {number} */ count, /** @type {any} */ route) => count + route.in_flight, 0);
  if (inFlight.at(-1)?.at !== now) inFlight.push({ at: now, value: open });
  while (inFlight[0] && inFlight[0].at < now - 120_000) inFlight.shift();
  const rates = all.rates(status.edges_ms);
  drawChart('Requests', '', all.points, now, perSecond(rates?.rate), perSecond);
  drawChart('Errors', 'errors', all.errorPoints, now, perSecond(rates?.errorRate), perSecond);
  drawChart('Slowest of 100 (p99)', '', all.slowPoints, now, milliseconds(rates?.p99 ?? null), milliseconds);
  drawChart('In flight', '', inFlight, now, short(open), short);
}

/**
 * @param {string} name
 * @param {string} kind
 * @param {{ at: number, value: number }[]} points
 * @param {number} now
 * @param {string} value
 * @param {(value: number) => string} format
 */
function drawChart(name, kind, points, now, value, format) {
  let parts = charts.get(name);
  if (!parts) {
    parts = { chart: new Chart(kind), value: element('b'), most: element('span', 'most') };
    charts.set(name, parts);
    const caption = element('figcaption');
    caption.append(element('span', '', name), parts.value);
    const figure = element('figure', 'chart');
    figure.append(caption, parts.chart.node, parts.most);
    one('#charts').append(figure);
  }
  parts.value.textContent = value;
  const most = parts.chart.draw(points, now, `${name}: now ${value}`);
  parts.most.textContent = `at most ${format(most)}`;
}

/**
 * One row: its key, its cells from left to right.
 * @typedef {{ key: string, make: () => HTMLTableRowElement, fill: (row: HTMLTableRowElement) => void }} Row
 */

/** @type {WeakMap<HTMLTableRowElement, Chart>} */
const sparklines = new WeakMap();

/**
 * @param {any} route
 * @param {any} status
 * @returns {Row}
 */
function routeRow(route, status) {
  const history = remember(`route ${route.name}`, route, status);
  const rates = history.rates(status.edges_ms);
  return {
    key: `route ${route.name}`,
    make: () => row(route.name, 7),
    fill: (node) => {
      const open = route.tunnels_open > 0 ? ` (${route.tunnels_open} tunnels)` : '';
      fill(node, 1, `${route.in_flight}${open}`);
      fill(node, 2, perSecond(rates?.rate));
      fill(node, 3, milliseconds(rates?.p50 ?? null));
      fill(node, 4, milliseconds(rates?.p99 ?? null));
      fill(node, 5, percent(rates?.errors ?? null), (rates?.errors ?? 0) > 0);
      fill(node, 6, perSecond(rates?.retries));
      fill(node, 7, rates ? `${bytes(rates.traffic)}/s` : '–');
      spark(node, 8, history, status.now_ms, route.name, rates?.rate);
    },
  };
}

/**
 * @param {any} upstream
 * @param {any} status
 * @returns {Row[]}
 */
function upstreamRows(upstream, status) {
  const heading = {
    key: `upstream ${upstream.name}`,
    make: () => {
      const node = document.createElement('tr');
      node.className = 'group';
      const cell = document.createElement('th');
      cell.scope = 'rowgroup';
      cell.colSpan = 11;
      cell.append(element('span', '', upstream.name), ' ', element('small'));
      node.append(cell);
      return node;
    },
    fill: (/** @type {HTMLTableRowElement} */ node) => {
      const up = upstream.servers.filter((/** @type {any} */ server) => server.state === 'up').length;
      /** @type {HTMLElement} */ (node.querySelector('small')).textContent = `${up} of ${upstream.servers.length} up`;
    },
  };
  return [heading, ...upstream.servers.map((/** @type {any} */ server) => serverRow(upstream.name, server, status))];
}

/**
 * @param {string} upstream
 * @param {any} server
 * @param {any} status
 * @returns {Row}
 */
function serverRow(upstream, server, status) {
  const name = `server ${upstream} ${server.server}`;
  const history = remember(name, server, status);
  const rates = history.rates(status.edges_ms);
  return {
    key: name,
    make: () => {
      const node = row(server.server, 8, true);
      const buttons = element('div', 'buttons');
      const order = (/** @type {string} */ text, /** @type {string} */ state) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.textContent = text;
        button.dataset['state'] = state;
        button.setAttribute('aria-label', `${text} ${server.server} of ${upstream}`);
        button.addEventListener('click', () => {
          if (button.getAttribute('aria-disabled') !== 'true') void change(upstream, server.server, state);
        });
        buttons.append(button);
      };
      order('Enable', 'up');
      order('Drain', 'draining');
      order('Disable', 'disabled');
      node.insertCell().append(buttons);
      return node;
    },
    fill: (node) => {
      const state = /** @type {HTMLTableCellElement} */ (node.cells[1]);
      state.replaceChildren(element('span', `state state-${server.state}`, server.state));
      fill(node, 2, String(server.in_flight));
      fill(node, 3, perSecond(rates?.rate));
      fill(node, 4, milliseconds(rates?.p50 ?? null));
      fill(node, 5, milliseconds(rates?.p99 ?? null));
      fill(node, 6, percent(rates?.errors ?? null), (rates?.errors ?? 0) > 0);
      fill(node, 7, percent(rates?.reuse ?? null));
      fill(node, 8, String(server.ejections), server.ejections > 0 && server.state === 'down');
      spark(node, 9, history, status.now_ms, server.server, rates?.rate);
      const ordered = ['draining', 'disabled'].includes(server.state) ? server.state : 'up';
      for (const button of node.querySelectorAll('button')) {
        // Not `disabled`: whoever has just pressed it would lose the place.
        button.setAttribute('aria-disabled', String(button.dataset['state'] === ordered));
      }
    },
  };
}

/**
 * Puts the rows of this status where the rows of the one before are: what stays keeps its node and the focus.
 * @param {HTMLElement} body
 * @param {Row[]} rows
 */
function showRows(body, rows) {
  const known = new Map([...body.children].map((node) => [/** @type {HTMLElement} */ (node).dataset['key'], node]));
  rows.forEach((each, index) => {
    const node = /** @type {HTMLTableRowElement} */ (known.get(each.key) ?? each.make());
    node.dataset['key'] = each.key;
    known.delete(each.key);
    each.fill(node);
    if (body.children[index] !== node) body.insertBefore(node, body.children[index] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}

/**
 * A row with a heading, cells for numbers and one for a chart.
 * @param {string} name
 * @param {number} numbers
 * @param {boolean} [hasState] whether the first of them is a word
 */
function row(name, numbers, hasState = false) {
  const node = document.createElement('tr');
  const heading = document.createElement('th');
  heading.scope = 'row';
  heading.textContent = name;
  node.append(heading);
  for (let index = 0; index < numbers; index += 1) {
    node.insertCell().className = hasState && index === 0 ? '' : 'number';
  }
  const chart = new Chart();
  node.insertCell().append(chart.node);
  sparklines.set(node, chart);
  return node;
}

/**
 * @param {HTMLTableRowElement} node
 * @param {number} index
 * @param {string} text
 * @param {boolean} [isAlarm]
 */
function fill(node, index, text, isAlarm = false) {
  const cell = /** @type {HTMLTableCellElement} */ (node.cells[index]);
  if (cell.textContent !== text) cell.textContent = text;
  cell.classList.toggle('alarm', isAlarm);
}

/**
 * @param {HTMLTableRowElement} node
 * @param {number} _index
 * @param {History} history
 * @param {number} now
 * @param {string} name
 * @param {number | undefined} rate
 */
function spark(node, _index, history, now, name, rate) {
  sparklines.get(node)?.draw(history.points, now, `Rate of ${name}: now ${perSecond(rate)}`);
}

/**
 * Passes an order on.
 * @param {string} upstream
 * @param {string} server
 * @param {string} state
 */
async function change(upstream, server, state) {
  if (state === 'disabled' && !(await isSure(`Disable ${server}? Open tunnels and streams to it are cut at once.`))) return;
  try {
    await ask('/api/servers', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ upstream, server, state }),
    });
    const words = { up: 'gets requests again', draining: 'finishes what it has and gets nothing new', disabled: 'is disabled' };
    said.textContent = `${server} ${words[/** @type {keyof typeof words} */ (state)]}.`;
  } catch (error) {
    said.textContent = `Nothing changed: ${error instanceof Error ? error.message : error}.`;
  }
  await poll();
}

/** @param {string} question */
function isSure(question) {
  one('#confirm-text').textContent = question;
  confirmation.returnValue = 'no';
  confirmation.showModal();
  return new Promise((resolve) => {
    confirmation.addEventListener('close', () => resolve(confirmation.returnValue === 'yes'), { once: true });
  });
}

/**
 * @param {string} name
 * @param {string} [kind]
 * @param {string} [text]
 */
function element(name, kind = '', text = '') {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  if (text) node.textContent = text;
  return node;
}

pause.addEventListener('click', () => {
  isPaused = !isPaused;
  pause.setAttribute('aria-pressed', String(isPaused));
  if (isPaused) clearTimeout(timer);
  else void poll();
});

key.addEventListener('submit', (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (one('#token'));
  sessionStorage.setItem('admin-token', field.value);
  field.value = '';
  key.hidden = true;
  void poll();
});

void poll();
