// The view of what has been going on for the last hour: how much ended how, how much goes on, how long it takes. All of
// it is counted from the executions that the tables show, so the two agree; where those do not reach back an hour, it
// says so.

import { h, put, show } from './dom.js';
import { clock, count, duration, isFailure, isTerminal, canonical } from './format.js';
import uPlot from './vendor/uplot/uplot.js';

/**
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./store.js').Change} Change
 * @typedef {import('./feed/executions.js').Execution} Execution
 *
 * @typedef {{action: string, runs: number, failed: number, active: number, p50: number, p95: number}} Row
 */

const minutes = 60;
const minute = 60_000;
const plotHeight = 200;
const shownActions = 50;

/** The lowest first, as they are stacked. @type {{name: string, color: string, is: (status: string) => boolean}[]} */
const outcomes = [
  { name: 'completed', color: '--green', is: (status) => status === 'completed' },
  { name: 'failed', color: '--red', is: isFailure },
  { name: 'cancelled', color: '--amber', is: (status) => status === 'cancelled' },
];

export class ActivityView {
  title = 'Activity';
  #drawn = 0;
  /** @type {any} */ #throughput;
  /** @type {any} */ #active;

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.covers = h('span', { className: 'faint', id: 'covers' });
    this.figures = outcomes.map(({ name }) => figure(name, name === 'failed' ? 'bad' : name === 'completed' ? 'good' : 'ended'));
    this.running = figure('running now', 'running');
    this.waiting = figure('waiting now', 'waiting');
    this.ended = h('div', { className: 'plot', role: 'img' });
    this.going = h('div', { className: 'plot', role: 'img' });
    this.actions = h('tbody', null);
    this.table = h('table', { className: 'actions' }, h('caption', { className: 'hidden' }, 'Durations by action'),
      h('thead', null, h('tr', null, ...['Action', 'Ended', 'Failed', 'Going on', 'p50', 'p95'].map((name, at) => h('th', { scope: 'col', className: at > 0 ? 'number' : '' }, name)),
        h('td', { className: 'bars' }, ''))), this.actions);
    this.nothing = h('p', { className: 'faint', hidden: true }, 'Nothing ended in the last hour.');
    this.node = h('section', { className: 'view page activity', tabIndex: 0, 'aria-labelledby': 'view-title' },
      h('div', { className: 'bar' }, h('h1', { id: 'view-title' }, 'The last hour'), h('span', { className: 'push' }), this.covers),
      h('div', { className: 'tiles' }, ...this.figures.map(({ node }) => node), this.running.node, this.waiting.node),
      h('div', { className: 'cards' },
        h('section', { className: 'card' }, h('h2', null, 'Ended per minute'), legend(outcomes), this.ended),
        h('section', { className: 'card' }, h('h2', null, 'Going on'), legend([{ name: 'running', color: '--blue' }, { name: 'waiting', color: '--grey' }]), this.going),
        h('section', { className: 'card wide' }, h('h2', null, 'Durations by action'), this.nothing, this.table)));
    new ResizeObserver(() => this.#resize()).observe(this.ended);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#forget();
      this.#draw();
    });
  }

  open() {
    this.store.want({});
    this.#draw();
  }

  close() {
    this.#forget();
  }

  /** @param {Change} change @param {boolean} now */
  update(change, now) {
    if (now || change.any && Date.now() - this.#drawn > 1000) {
      this.#draw();
    }
  }

  tick() {
    this.#draw();
  }

  key() {
    return false;
  }

  #forget() {
    this.#throughput?.destroy();
    this.#active?.destroy();
    this.#throughput = this.#active = undefined;
  }

  #resize() {
    const width = this.ended.clientWidth;
    if (width > 0) {
      this.#throughput?.setSize({ width, height: plotHeight });
      this.#active?.setSize({ width: this.going.clientWidth, height: plotHeight });
    }
  }

  #draw() {
    this.#drawn = Date.now();
    const { executions, state } = this.store;
    const now = this.store.now();
    const first = Math.floor(now / minute) - minutes + 1; // the minute that the plots begin with
    const ended = outcomes.map(() => new Array(minutes).fill(0));
    const started = new Array(minutes + 1).fill(0); // differences of those that run, minute by minute
    const created = new Array(minutes + 1).fill(0); // and of those that wait
    const totals = outcomes.map(() => 0);
    let running = 0;
    let waiting = 0;
    let oldest = now;
    /** @type {Map<string, {lengths: number[], runs: number, failed: number, active: number}>} */
    const actions = new Map();
    const at = (/** @type {number} */ time) => Math.min(minutes, Math.max(0, Math.floor(time / minute) - first));
    for (const { status: raw, action, created: begun, started: ran, updated } of executions.values()) {
      const status = canonical(raw);
      const over = isTerminal(status);
      oldest = Math.min(oldest, begun);
      const end = over ? updated : now + minute;
      if (end / minute >= first) {
        const until = at(end);
        const from = ran ? at(ran) : until;
        created[at(begun)]++;
        created[from]--;
        started[from]++;
        started[until]--;
      }
      if (!over) {
        running += ran ? 1 : 0;
        waiting += ran ? 0 : 1;
      }
      const known = actions.get(action) ?? { lengths: [], runs: 0, failed: 0, active: 0 };
      if (!over) {
        known.active++;
        actions.set(action, known);
      } else if (updated >= first * minute) {
        const outcome = outcomes.findIndex(({ is }) => is(status));
        if (outcome >= 0) {
          ended[outcome][at(updated)]++;
          totals[outcome]++;
        }
        known.runs++;
        known.failed += isFailure(status) ? 1 : 0;
        if (ran) {
          known.lengths.push(updated - ran);
        }
        actions.set(action, known);
      }
    }
    outcomes.forEach((_, i) => put(this.figures[i].value, totals[i].toLocaleString('en')));
    put(this.running.value, running.toLocaleString('en'));
    put(this.waiting.value, waiting.toLocaleString('en'));
    const short = !state.complete && oldest > first * minute;
    put(this.covers, !state.loaded ? '' : short ? `since ${clock(oldest)}: the newest ${count(executions.size, 'execution')} reach no further` : '');
    this.#drawPlots(first, ended, summed(started), summed(created));
    this.#drawActions([...actions].map(([action, { lengths, runs, failed, active }]) => {
      lengths.sort((a, b) => a - b);
      return { action, runs, failed, active, p50: quantile(lengths, 0.5), p95: quantile(lengths, 0.95) };
    }));
    const last = ended.map((values) => values[minutes - 1]);
    this.ended.setAttribute('aria-label', `Executions that ended, by minute, for an hour: ${outcomes.map(({ name }, i) => `${totals[i]} ${name}`).join(', ')}; in this minute ${last.join(', ')}`);
    this.going.setAttribute('aria-label', `Executions going on, by minute, for an hour: now ${running} running, ${waiting} waiting`);
  }

  /** @param {number} first @param {number[][]} ended @param {number[]} running @param {number[]} waiting */
  #drawPlots(first, ended, running, waiting) {
    if (this.ended.clientWidth === 0) {
      return;
    }
    const times = ended[0].map((_, i) => (first + i) * 60);
    // Stacked: what is drawn first is the sum of all, and the tallest.
    const stacked = outcomes.map((_, i) => times.map((__, t) => ended.slice(0, i + 1).reduce((sum, values) => sum + values[t], 0))).reverse();
    this.#throughput ??= plot(this.ended, outcomes.map(({ name, color }) => ({ label: name, color })).reverse(), true);
    this.#active ??= plot(this.going, [{ label: 'running', color: '--blue' }, { label: 'waiting', color: '--grey' }], false);
    this.#throughput.setData([times, ...stacked]);
    this.#active.setData([times, running, waiting]);
  }

  /** @param {Row[]} all */
  #drawActions(all) {
    const rows = all.filter(({ action }) => action).sort((a, b) => b.runs + b.active - a.runs - a.active || (a.action < b.action ? -1 : 1)).slice(0, shownActions);
    show(this.nothing, rows.length === 0);
    show(this.table, rows.length > 0);
    const longest = Math.max(1, ...rows.map(({ p95 }) => p95));
    while (this.actions.children.length > rows.length) {
      this.actions.lastElementChild?.remove();
    }
    rows.forEach(({ action, runs, failed, active, p50, p95 }, at) => {
      const row = this.actions.children[at] ?? this.actions.appendChild(h('tr', null, h('th', { scope: 'row' }, h('a', null)),
        ...[1, 2, 3, 4, 5].map(() => h('td', { className: 'number' })), h('td', { className: 'bars', 'aria-hidden': 'true' }, h('span', { className: 'p95' }), h('span', { className: 'p50' }))));
      const [name, ...cells] = [...row.children];
      const link = /** @type {HTMLAnchorElement} */ (name.firstChild);
      put(link, action);
      link.href = `?${new URLSearchParams({ action })}`;
      [runs, failed, active].forEach((value, i) => put(cells[i], value.toLocaleString('en')));
      cells[1].classList.toggle('bad', failed > 0);
      put(cells[3], p50 < 0 ? '–' : duration(p50));
      put(cells[4], p95 < 0 ? '–' : duration(p95));
      const [outer, inner] = /** @type {HTMLElement[]} */ ([...cells[5].children]);
      outer.style.width = `${Math.max(0, 100 * p95 / longest)}%`;
      inner.style.width = `${Math.max(0, 100 * p50 / longest)}%`;
    });
  }
}

/** Sums up differences. @param {number[]} differences */
function summed(differences) {
  let sum = 0;
  return differences.slice(0, minutes).map((difference) => (sum += difference));
}

/** @param {number[]} sorted @param {number} q @returns -1 where there is none */
const quantile = (sorted, q) => (sorted.length > 0 ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : -1);

/** @param {string} name @param {string} tone */
function figure(name, tone) {
  const value = h('span', { className: 'value' }, '–');
  return { value, node: h('div', { className: `tile ${tone}` }, value, h('span', { className: 'name' }, h('span', { className: 'dot', 'aria-hidden': 'true' }), name)) };
}

/** @param {{name: string, color: string}[]} series */
const legend = (series) => h('ul', { className: 'legend', 'aria-hidden': 'true' }, ...series.map(({ name, color }) => {
  const key = h('span', { className: 'key' });
  key.style.background = `var(${color})`;
  return h('li', null, key, name);
}));

/** @param {HTMLElement} where @param {{label: string, color: string}[]} series @param {boolean} bars */
function plot(where, series, bars) {
  const style = getComputedStyle(document.documentElement);
  const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color('--faint'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
  return new uPlot({
    width: where.clientWidth, height: plotHeight, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
    scales: { x: { time: true }, y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ max) => [0, Math.max(4, max * 1.1)] } },
    axes: [
      { ...axis, space: 70, size: 28, values: (/** @type {any} */ _, /** @type {number[]} */ times) => times.map((time) => clock(time * 1000).slice(0, 5)) },
      { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000], values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => tick.toLocaleString('en')) },
    ],
    series: [{}, ...series.map(({ label, color: name }) => ({
      label, stroke: color(name), width: bars ? 0 : 1.5, points: { show: false },
      fill: bars ? color(name) : undefined, paths: bars ? uPlot.paths.bars({ size: [0.8, 20], align: 1 }) : uPlot.paths.stepped({ align: 1 }),
    }))],
  }, [[], ...series.map(() => [])], where);
}
