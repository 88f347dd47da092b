// The view of all executions: filters, and a table of those that match, newest first, children folded into their parents.
//
// Rows never move under a hand. While the pointer is over the table or the focus in it, or it is scrolled down, rows
// stay where they are and change in place; what is new is counted, and comes in when the hand is gone or asks for it.
// Pausing stops changes in place, too.

import { attribute, h, put, show } from './dom.js';
import { age, canonical, count, duration, isFailure, isTerminal, moment, statuses, tone } from './format.js';
import { List } from './list.js';

/**
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./store.js').Change} Change
 * @typedef {import('./feed/executions.js').Execution} Execution
 * @typedef {{id: string, depth: number}} Item
 */

const periods = /** @type {[string, string, number][]} */ ([
  ['', 'any time', 0], ['5m', 'last 5 minutes', 300_000], ['15m', 'last 15 minutes', 900_000], ['1h', 'last hour', 3_600_000],
  ['24h', 'last 24 hours', 86_400_000],
]);
const parkedAfter = 30_000; // a pointer that has not moved for so long is nobody's hand

export class ExecutionsView {
  title = 'Executions';
  /** @type {Set<string>} */ #status = new Set();
  #action = '';
  #period = '';
  #text = '';
  /** Parents whose children are shown. @type {Set<string>} */ #open = new Set();
  /** What is shown while it is paused. @type {{executions: Map<string, Execution>, order: string[], at: number} | undefined} */ #paused;
  #pointerAt = 0; // when the pointer last moved over the rows; 0: it is elsewhere
  #waiting = 0; // executions that match and are not shown
  #chips = new Map();
  #counted = 0;
  #scrolled = 0; // when it was last shown
  #placed = 0;

  /** @param {Store} store @param {(query: URLSearchParams, replace: boolean) => void} navigate */
  constructor(store, navigate) {
    this.store = store;
    this.navigate = navigate;
    this.search = h('input', { type: 'search', id: 'search', placeholder: 'Search id or action', autocomplete: 'off', spellcheck: false, 'aria-label': 'Search id or action', 'aria-keyshortcuts': '/' });
    this.action = h('select', { id: 'action', 'aria-label': 'Action' }, h('option', { value: '' }, 'every action'));
    this.period = h('select', { id: 'period', 'aria-label': 'Created' }, ...periods.map(([value, name]) => h('option', { value }, name)));
    this.pause = h('button', { type: 'button', id: 'pause', 'aria-pressed': 'false', 'aria-keyshortcuts': 'p' }, 'Pause');
    this.fresh = h('button', { type: 'button', id: 'fresh', className: 'pill' });
    this.fresh.style.visibility = 'hidden';
    this.chips = h('div', { className: 'chips', role: 'group', 'aria-label': 'Status' }, ...statuses.map((status) => this.#chip(status)));
    this.summary = h('p', { id: 'summary', className: 'faint' }, ' ');
    this.list = new List({
      label: 'Executions', key: (/** @type {Item} */ item) => item.id, make: makeRow, fill: (row, item) => this.#fill(row, item),
      onScroll: () => this.#release(),
      columns: [
        { name: 'Status', className: 'status' }, { name: 'Id', className: 'id' }, { name: 'Action', className: 'what' },
        { name: 'Age', className: 'age' }, { name: 'Duration', className: 'took' },
      ],
    });
    this.empty = h('div', { className: 'empty', hidden: true });
    this.node = h('section', { className: 'view executions', 'aria-labelledby': 'view-title' },
      h('h1', { id: 'view-title', className: 'hidden' }, 'Executions'),
      h('div', { className: 'bar' }, this.search, this.action, this.period, h('span', { className: 'push' }), this.fresh, this.pause),
      this.chips, this.list.node, this.empty, this.summary);
    this.#listen();
  }

  /** @param {string} status */
  #chip(status) {
    const number = h('span', { className: 'number' }, '0');
    const chip = h('button', { type: 'button', className: `chip ${tone(status)}`, 'aria-pressed': 'false' },
      h('span', { className: 'dot', 'aria-hidden': 'true' }), status, ' ', number);
    chip.addEventListener('click', () => {
      this.#status = new Set(this.#status.has(status) ? [...this.#status].filter((other) => other !== status) : [...this.#status, status]);
      this.#filtered(false);
    });
    this.#chips.set(status, { chip, number });
    return chip;
  }

  #listen() {
    this.search.addEventListener('input', () => {
      this.#text = this.search.value;
      this.#filtered(true);
    });
    this.action.addEventListener('change', () => {
      this.#action = this.action.value;
      this.#filtered(false);
    });
    this.period.addEventListener('change', () => {
      this.#period = this.period.value;
      this.#filtered(false);
    });
    this.pause.addEventListener('click', () => this.togglePause());
    this.fresh.addEventListener('click', () => this.catchUp());
    const { body, scroller } = this.list;
    body.addEventListener('pointermove', () => { this.#pointerAt = Date.now(); });
    body.addEventListener('pointerenter', () => { this.#pointerAt = Date.now(); });
    body.addEventListener('pointerleave', () => {
      this.#pointerAt = 0;
      this.#release();
    });
    scroller.addEventListener('focusout', () => setTimeout(() => this.#release()));
    body.addEventListener('click', (event) => {
      const button = /** @type {HTMLElement} */ (event.target).closest('button');
      const id = button?.closest('.row')?.getAttribute('data-key');
      if (id) {
        this.fold(id);
        return;
      }
      this.list.mark(/** @type {HTMLElement} */ (event.target).closest('.row')?.getAttribute('data-key') ?? '');
    });
  }

  /** The filters have changed. @param {boolean} typing */
  #filtered(typing) {
    const query = new URLSearchParams();
    for (const [name, value] of [['status', [...this.#status].join(',')], ['action', this.#action], ['since', this.#period], ['q', this.#text]]) {
      if (value) {
        query.set(name, value);
      }
    }
    this.navigate(query, typing && new URLSearchParams(location.search).has('q'));
  }

  /** Shows what the address says. @param {URLSearchParams} query */
  open(query) {
    this.#status = new Set((query.get('status') ?? '').split(',').filter(Boolean));
    this.#action = query.get('action') ?? '';
    this.#period = query.get('since') ?? '';
    this.#text = query.get('q') ?? '';
    if (this.search.value !== this.#text) {
      this.search.value = this.#text;
    }
    this.#actions();
    this.action.value = this.#action;
    this.period.value = this.#period;
    for (const [status, { chip }] of this.#chips) {
      attribute(chip, 'aria-pressed', String(this.#status.has(status)));
    }
    this.store.want({});
    this.#place(true);
    this.#count();
  }

  close() {
    this.#scrolled = this.list.scroller.scrollTop;
  }

  /** Puts scrolling and focus back where they were. */
  restore() {
    this.list.draw();
    this.list.scroller.scrollTop = this.#scrolled;
    if (this.list.active) {
      this.list.activate(this.list.active);
    }
  }

  /** Takes over what came. @param {Change} change @param {boolean} now the badge is about to say that it is shown */
  update(change, now) {
    if (!this.#paused) {
      this.list.refill(change.executions);
    }
    if (change.members || this.#isFiltered() && change.executions.size > 0 || this.#paused && change.any || this.#placed === 0) {
      if (now) {
        this.#place(false);
      } else {
        this.#soon();
      }
    } else if (now && this.#placing) {
      this.#place(false);
    }
    this.#countSoon();
  }

  /** Once a second. */
  tick() {
    if (this.#pointerAt && Date.now() - this.#pointerAt > parkedAfter) {
      this.#pointerAt = 0;
      this.#release();
    }
    if (!this.#paused) {
      this.list.refillAll();
    }
    if (this.#period) {
      this.#soon();
    }
  }

  #isFiltered() {
    return this.#status.size > 0 || this.#action !== '' || this.#period !== '' || this.#text !== '';
  }

  /** Whether rows must stay where they are. */
  #isHeld() {
    return this.#paused !== undefined || this.#pointerAt > 0 || this.list.scroller.scrollTop > 0 ||
      this.list.scroller.querySelector(':focus-visible') !== null; // a row that was clicked has the focus, too
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */ #placing;

  /** Not for every batch: what is new comes in at most some times a second. */
  #soon() {
    this.#placing ??= setTimeout(() => this.#place(false), Math.max(0, this.#placed + 60 - Date.now()));
  }

  #release() {
    if (this.#waiting > 0 && !this.#isHeld()) {
      this.#soon();
    }
  }

  /** Decides which rows there are. @param {boolean} anew the rows that are shown do not matter */
  #place(anew) {
    clearTimeout(this.#placing);
    this.#placing = undefined;
    const items = this.#paused && !anew ? this.#items(this.store) : this.#items(this.#source());
    this.#placed = Date.now();
    const held = !anew && this.#isHeld() && this.list.items.length > 0;
    if (held) {
      const shown = new Set(this.list.items.map(({ id }) => id));
      this.#waiting = items.reduce((n, { id }) => n + (shown.has(id) ? 0 : 1), 0);
    } else {
      this.#waiting = 0;
      this.list.set(items);
    }
    this.#hint();
    this.#vacancy();
  }

  #hint() {
    const changed = this.#paused ? [...this.store.executions.values()].filter((now) => {
      const before = this.#paused?.executions.get(now.id);
      return before !== undefined && before.status !== now.status;
    }).length : 0;
    const parts = [this.#waiting > 0 ? `${this.#waiting.toLocaleString('en')} new` : '', changed > 0 ? `${changed.toLocaleString('en')} changed` : ''];
    const text = parts.filter(Boolean).join(', ');
    if (text) {
      put(this.fresh, text);
    }
    this.fresh.style.visibility = text ? 'visible' : 'hidden';
  }

  /** What is shown: the store, or what it was when it was paused. */
  #source() {
    return this.#paused ?? this.store;
  }

  /** @param {{executions: Map<string, Execution>, order: string[]}} source @returns {Item[]} */
  #items({ executions, order }) {
    if (this.#isFiltered()) {
      const after = this.#period ? this.store.now() - (periods.find(([value]) => value === this.#period)?.[2] ?? 0) : 0;
      const words = this.#text.toLowerCase().split(/\s+/).filter(Boolean);
      return order.flatMap((id) => {
        const execution = executions.get(id);
        return execution && this.#matches(execution, after, words) ? [{ id, depth: 0 }] : [];
      });
    }
    /** @type {Item[]} */
    const items = [];
    /** @param {string} id @param {number} depth */
    const add = (id, depth) => {
      items.push({ id, depth });
      if (this.#open.has(id)) {
        this.store.children.get(id)?.forEach((child) => executions.has(child) && add(child, depth + 1));
      }
    };
    for (const id of order) {
      const parent = executions.get(id)?.parent;
      if (!parent || !executions.has(parent)) {
        add(id, 0);
      }
    }
    return items;
  }

  /** @param {Execution} execution @param {number} after @param {string[]} words */
  #matches({ id, action, status, created, parent }, after, words) {
    return (this.#status.size === 0 || this.#status.has(canonical(status))) && (!this.#action || action === this.#action) && created >= after &&
      words.every((word) => id === word || action.toLowerCase().includes(word) || id.startsWith(word) || parent === word);
  }

  // --- one row -----------------------------------------------------------------------------------------------------

  /** @param {HTMLElement} row @param {Item} item */
  #fill(row, { id, depth }) {
    const execution = this.#source().executions.get(id);
    const [status, link, what, aged, took] = /** @type {HTMLElement[]} */ ([...row.children]);
    const anchor = /** @type {HTMLAnchorElement} */ (link.firstChild);
    if (anchor.textContent !== id) {
      anchor.textContent = id;
      anchor.href = `?execution=${id}`;
    }
    if (!execution) {
      put(status.lastChild, 'deleted');
      return;
    }
    const className = `row ${tone(execution.status)} depth-${Math.min(depth, 4)}${row.classList.contains('active') ? ' active' : ''}`;
    if (row.className !== className) {
      row.className = className;
    }
    put(status.lastChild, execution.status);
    const [toggle, name, note] = /** @type {HTMLElement[]} */ ([...what.children]);
    put(name, execution.action || '…');
    attribute(name, 'title', execution.action);
    this.#fillChildren(execution, toggle, note, depth);
    const now = this.#paused?.at ?? this.store.now();
    put(aged, execution.created ? age(now - execution.created) : '');
    attribute(aged, 'title', moment(execution.created));
    put(took, elapsed(execution, now));
  }

  /** @param {Execution} execution @param {HTMLElement} toggle @param {HTMLElement} note @param {number} depth */
  #fillChildren({ id, parent }, toggle, note, depth) {
    const { executions } = this.#source();
    const children = this.store.children.get(id) ?? [];
    const failed = children.reduce((n, child) => n + (isFailure(executions.get(child)?.status ?? '') ? 1 : 0), 0);
    const running = children.reduce((n, child) => n + (isTerminal(executions.get(child)?.status ?? 'completed') ? 0 : 1), 0);
    const folds = children.length > 0 && !this.#isFiltered();
    show(toggle, folds);
    if (folds) {
      const open = this.#open.has(id);
      attribute(toggle, 'aria-expanded', String(open));
      attribute(toggle, 'aria-label', `Children of ${id}`);
    }
    const parts = [];
    if (children.length > 0) {
      parts.push(count(children.length, 'child', 'children'));
      if (running > 0) {
        parts.push(`${running.toLocaleString('en')} going on`);
      }
      if (failed > 0) {
        parts.push(`${failed.toLocaleString('en')} failed`);
      }
    }
    if (parent && depth === 0) {
      parts.push(`child of ${parent}`);
    }
    put(note, parts.join(', '));
    note.classList.toggle('bad', failed > 0);
  }

  // --- counts and states -------------------------------------------------------------------------------------------

  /** @type {ReturnType<typeof setTimeout> | undefined} */ #counting;

  #countSoon() {
    this.#counting ??= setTimeout(() => this.#count(), Math.max(0, this.#counted + 250 - Date.now()));
  }

  #count() {
    this.#counting = undefined;
    this.#counted = Date.now();
    const { executions } = this.#source();
    /** @type {Map<string, number>} */
    const numbers = new Map();
    for (const { status } of executions.values()) {
      numbers.set(canonical(status), (numbers.get(canonical(status)) ?? 0) + 1);
    }
    for (const [status, { chip, number }] of this.#chips) {
      const n = numbers.get(status) ?? 0;
      put(number, n.toLocaleString('en'));
      chip.classList.toggle('none', n === 0);
    }
    this.#actions();
    this.#vacancy();
  }

  /** Offers the actions that there are. */
  #actions() {
    const there = new Set([...this.action.options].map(({ value }) => value));
    const fresh = new Set([this.#action]);
    for (const { action } of this.store.executions.values()) {
      fresh.add(action);
    }
    const missing = [...fresh].filter((action) => action && !there.has(action));
    if (missing.length > 0 && document.activeElement !== this.action) {
      const { value } = this.action;
      const all = [...there, ...missing].filter(Boolean).sort().slice(0, 500);
      this.action.replaceChildren(h('option', { value: '' }, 'every action'), ...all.map((action) => h('option', { value: action }, action)));
      this.action.value = value;
    }
  }

  /** Says how much is shown, and what to do where that is nothing. */
  #vacancy() {
    const { state, executions } = this.store;
    const n = this.list.items.length;
    const none = n === 0 && state.loaded && this.store.filled;
    show(this.empty, none || state.executions === 'none');
    this.node.classList.toggle('vacant', none);
    if (none) {
      this.empty.replaceChildren(...this.#advice());
    }
    const all = `${executions.size.toLocaleString('en')}${state.complete ? '' : ' newest'}`;
    const paused = this.#paused ? `, as of ${moment(this.#paused.at).slice(11, 19)}` : '';
    put(this.summary, !state.loaded ? ' ' : this.#isFiltered() ? `${n.toLocaleString('en')} of the ${all} executions match${paused}` :
      `${all} executions${paused}`);
  }

  #advice() {
    if (this.store.state.executions === 'none') {
      return [h('p', null, 'This database has no execution table. What its tables tell is under ', h('a', { href: '?view=tables' }, 'Tables'), '.')];
    }
    if (this.#isFiltered()) {
      const all = h('button', { type: 'button' }, 'Show all executions');
      all.addEventListener('click', () => this.navigate(new URLSearchParams(), false));
      return [h('p', null, 'No execution matches these filters.'), h('p', null, all)];
    }
    return [
      h('p', null, 'No execution yet. Start the first one in a terminal; it appears here by itself:'),
      h('pre', null, h('code', { id: 'first' }, 'attune action execute core.echo --param message="Hello!" --wait')),
    ];
  }

  // --- hands -------------------------------------------------------------------------------------------------------

  togglePause() {
    this.#paused = this.#paused ? undefined :
      { executions: new Map(this.store.executions), order: this.store.order, at: this.store.now() };
    attribute(this.pause, 'aria-pressed', String(this.#paused !== undefined));
    put(this.pause, this.#paused ? 'Resume' : 'Pause');
    if (!this.#paused) {
      this.#pointerAt = 0;
      this.list.refillAll();
    }
    this.#place(!this.#paused);
    this.#count();
  }

  /** Shows what is new, at the top. */
  catchUp() {
    if (this.#paused) {
      this.togglePause();
    }
    this.list.scroller.scrollTop = 0;
    this.#pointerAt = 0;
    if (this.list.scroller.contains(document.activeElement)) {
      this.pause.focus();
    }
    this.#place(true);
  }

  /** Shows or folds the children of a row. @param {string} id @param {boolean} [open] */
  fold(id, open = !this.#open.has(id)) {
    if (open === this.#open.has(id) || !this.store.children.has(id)) {
      return;
    }
    if (open) {
      this.#open.add(id);
    } else {
      this.#open.delete(id);
    }
    this.#place(true);
    this.list.refill([id]);
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether it was for this view */
  key({ key }) {
    switch (key) {
      case 'j': case 'ArrowDown': this.list.move(1); return true;
      case 'k': case 'ArrowUp': this.list.move(-1); return true;
      case 'l': case 'ArrowRight': this.fold(this.list.active, true); return true;
      case 'h': case 'ArrowLeft': this.fold(this.list.active, false); return true;
      case 'p': this.togglePause(); return true;
      case '.': this.catchUp(); return true;
      case '/':
        this.search.focus();
        this.search.select();
        return true;
      case 'Escape':
        if (document.activeElement === this.search && this.#text) {
          this.#text = '';
          this.#filtered(true);
        } else if (document.activeElement instanceof HTMLElement) {
          document.activeElement.blur();
        }
        return true;
    }
    return false;
  }
}

function makeRow() {
  const toggle = h('button', { type: 'button', className: 'toggle', hidden: true, tabIndex: -1 });
  return h('div', { role: 'row', className: 'row' },
    h('div', { role: 'cell', className: 'status' }, h('span', { className: 'dot', 'aria-hidden': 'true' }), h('span', { className: 'word' })),
    h('div', { role: 'cell', className: 'id' }, h('a', { tabIndex: -1 })),
    h('div', { role: 'cell', className: 'what' }, toggle, h('span', { className: 'name' }), h('span', { className: 'note' })),
    h('div', { role: 'cell', className: 'age' }),
    h('div', { role: 'cell', className: 'took' }));
}

/** How long it ran, or has been running. @param {Execution} execution @param {number} now */
function elapsed({ status, started, updated }, now) {
  if (!started) {
    return '';
  }
  return duration((isTerminal(status) ? updated : now) - started);
}
