// The view of the server: where notifications come from, whether they arrive, and who gets them.

import { h, put, show } from './dom.js';
import { clock, duration } from './format.js';

/** @typedef {import('./store.js').Store} Store */

const n = (/** @type {number} */ value) => (value ?? 0).toLocaleString('en');
const bytes = (/** @type {number} */ value) => (value < 10_000 ? `${n(value)} B` : value < 10_000_000 ? `${n(Math.round(value / 1000))} kB` : `${n(Math.round(value / 1e6))} MB`);
const sum = (/** @type {Record<string, number> | undefined} */ values) => Object.values(values ?? {}).reduce((a, b) => a + b, 0);

/**
 * What is shown, by card: a name, how it is read from /stats, when it is bad, what it means.
 * @type {[string, [string, (stats: any) => string, ((stats: any) => boolean) | null, string][]][]}
 */
const cards = [
  ['Source', [
    ['Health', ({ source }) => (source.live ? 'live' : source.problem || 'degraded'), ({ source }) => !source.live, 'whether notifications arrive, proved by a canary through PostgreSQL'],
    ['Kind', ({ source }) => (source.source === 'log' ? 'log: a table, survives restarts' : 'listen: NOTIFY alone'), null, 'where notifications come from'],
    ['Canary latency', ({ source }) => duration1(source.canary_seconds), ({ source }) => source.canary_seconds > 1, 'the latest round trip through PostgreSQL'],
    ['Listener reconnects', ({ source }) => n(source.reconnects), null, 'how often the connection to PostgreSQL was made anew'],
    ['PostgreSQL queue', ({ source }) => `${(100 * source.queue_usage).toFixed(1)} % full`, ({ source }) => source.queue_usage > 0.5, 'its queue of notifications; when it is full, writers fail'],
  ]],
  ['Notification log', [
    ['Lag', ({ source: { log } }) => (log ? `${n(log.lag)} rows` : '–'), ({ source: { log } }) => log?.lag > 1000, 'rows that were not published yet when the last canary came back'],
    ['Head', ({ source: { log } }) => (log ? n(log.head) : '–'), null, 'the latest row'],
    ['Reaches back', ({ source: { log } }) => (log ? `${n(log.head - Math.min(log.pruned, log.head))} rows` : '–'), null, 'how far a cursor may be behind'],
    ['Losses', ({ source: { log } }) => (log ? n(log.losses) : '–'), ({ source: { log } }) => log?.losses > 0, 'notifications that writers could not log'],
  ]],
  ['Delivery', [
    ['Gaps', ({ hub }) => n(sum(hub.gaps)), null, 'how often clients were told that something may be missing'],
    ['Waiting in queues', ({ hub }) => `${n(hub.queued)} messages, ${bytes(hub.queued_bytes)}`, null, 'of all clients'],
    ['Fullest queue', ({ hub }) => `${n(hub.queued_most)} messages`, null, 'of one client'],
    ['Slow consumers', ({ slow_consumers }) => n(sum(slow_consumers)), null, 'clients that were disconnected as they did not keep up'],
    ['Kept for replay', ({ hub }) => `${n(hub.retained)} notifications`, null, 'in memory'],
  ]],
  ['Connections', [
    ['Event streams', ({ connections }) => n(connections.sse), null, 'this browser has one of them, however many tabs are open'],
    ['WebSockets', ({ connections }) => n(connections.ws), null, ''],
    ['Long polls', ({ connections }) => n(connections.longpoll), null, ''],
    ['Delivered', ({ deliveries }) => `${n(sum(deliveries))} notifications`, null, 'to all clients, since the start'],
  ]],
  ['Server', [
    ['Version', ({ version }) => version, null, ''],
    ['Up for', ({ uptime_seconds }) => duration(uptime_seconds * 1000), null, ''],
    ['Executions', ({ executions }) => ({ read_write: 'started and cancelled here', read_only: 'the platform’s, read only', none: 'none' })[/** @type {string} */ (executions)] ?? executions, null, ''],
  ]],
];

const duration1 = (/** @type {number} */ seconds) => (seconds < 0.01 ? `${(1000 * seconds).toFixed(2)} ms` : duration(1000 * seconds));

export class SystemView {
  title = 'System';
  /** @type {[HTMLElement, (stats: any) => string, ((stats: any) => boolean) | null][]} */ #figures = [];

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.problem = h('p', { className: 'failure', hidden: true });
    this.asOf = h('span', { className: 'faint' });
    this.types = h('table', null, h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Channel'), h('th', { scope: 'col', className: 'number' }, 'Received'))), h('tbody', null));
    this.gaps = h('table', null, h('thead', null, h('tr', null, h('th', { scope: 'col' }, 'Reason'), h('th', { scope: 'col', className: 'number' }, 'Gaps and skipped'))), h('tbody', null));
    this.node = h('section', { className: 'view page system', tabIndex: 0, 'aria-labelledby': 'view-title' },
      h('div', { className: 'bar' }, h('h1', { id: 'view-title' }, 'System'), h('span', { className: 'push' }), this.asOf),
      this.problem,
      h('div', { className: 'cards' }, ...cards.map(([title, figures]) => h('section', { className: 'card' }, h('h2', null, title),
        h('dl', { className: 'figures' }, ...figures.map(([name, value, bad, meaning]) => {
          const figure = h('dd', null, '–');
          this.#figures.push([figure, value, bad]);
          return h('div', { title: meaning }, h('dt', null, name), figure);
        })))), h('section', { className: 'card' }, h('h2', null, 'Received'), this.types), h('section', { className: 'card' }, h('h2', null, 'Announced as missing'), this.gaps)));
  }

  open() {
    this.store.want({ stats: true });
    this.update();
  }

  update() {
    const { stats } = this.store;
    if (!stats) {
      return;
    }
    show(this.problem, Boolean(stats.error));
    if (stats.error) {
      put(this.problem, `The server's figures cannot be read: ${stats.error}`);
      return;
    }
    put(this.asOf, `as of ${clock(stats.at)}`);
    for (const [node, value, bad] of this.#figures) {
      put(node, value(stats));
      node.classList.toggle('bad', bad?.(stats) ?? false);
    }
    fill(this.types, stats.source.notifications);
    fill(this.gaps, { ...stats.hub.gaps, ...stats.source.skipped });
  }

  tick() {}

  key() {
    return false;
  }
}

/** @param {HTMLTableElement} table @param {Record<string, number>} values */
function fill(table, values) {
  const rows = Object.entries(values ?? {}).filter(([, value]) => value > 0).sort(([a], [b]) => (a < b ? -1 : 1));
  const body = table.tBodies[0];
  const text = JSON.stringify(rows);
  if (body.dataset.rows !== text) {
    body.dataset.rows = text;
    body.replaceChildren(...(rows.length > 0 ? rows : [['nothing', 0]]).map(([name, value]) =>
      h('tr', null, h('td', null, String(name)), h('td', { className: 'number' }, n(Number(value))))));
  }
}
