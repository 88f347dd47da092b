// A list that draws only the rows that can be seen, so that 10,000 scroll like 30. All rows are equally high.

import { h } from './dom.js';

const overscan = 8; // rows drawn beyond each edge

/**
 * @template T
 * @typedef {object} ListOptions
 * @property {string} label
 * @property {{name: string, className: string}[]} columns
 * @property {(item: T) => string} key
 * @property {() => HTMLElement} make makes an empty row with a cell for each column
 * @property {(row: HTMLElement, item: T) => void} fill
 * @property {() => void} onScroll
 */

/** @template T */
export class List {
  /** @type {T[]} */ items = [];
  /** @type {Map<string, number>} */ #positions = new Map();
  /** @type {Map<string, HTMLElement>} */ #rows = new Map();
  /** @type {HTMLElement[]} */ #spare = [];
  #height = 0;
  #drawing = 0;
  #active = '';

  /** @param {ListOptions<T>} options */
  constructor(options) {
    this.options = options;
    const head = h('div', { role: 'row', className: 'row head' },
      ...options.columns.map(({ name, className }) => h('div', { role: 'columnheader', className }, name)));
    this.body = h('div', { role: 'rowgroup', className: 'rows' });
    this.scroller = h('div', { className: 'scroller' }, this.body);
    this.node = h('div', { role: 'table', className: 'list', 'aria-label': options.label, 'aria-colcount': options.columns.length },
      h('div', { role: 'rowgroup' }, head), this.scroller);
    this.scroller.setAttribute('role', 'presentation');
    this.scroller.addEventListener('scroll', () => {
      options.onScroll();
      this.#drawing ||= requestAnimationFrame(() => {
        this.#drawing = 0;
        this.draw();
      });
    }, { passive: true });
    new ResizeObserver(() => {
      this.#height = 0;
      this.draw();
    }).observe(this.scroller);
  }

  /** Shows other items. @param {T[]} items */
  set(items) {
    this.items = items;
    this.#positions = new Map(items.map((item, at) => [this.options.key(item), at]));
    this.node.setAttribute('aria-rowcount', String(items.length + 1));
    if (this.#active && !this.#positions.has(this.#active)) {
      this.#active = '';
    }
    this.draw();
  }

  /** The height of a row is the style sheet's, in pixels; it depends on the font and on the width of the screen. */
  #rowHeight() {
    if (this.#height === 0) {
      this.#height = parseFloat(getComputedStyle(this.body).getPropertyValue('--row-height')) * parseFloat(getComputedStyle(document.documentElement).fontSize);
    }
    return this.#height;
  }

  /** Draws what can be seen. Rows keep their elements while they are in sight, so focus and selection stay. */
  draw() {
    const height = this.#rowHeight();
    if (!(height > 0) || !this.node.isConnected) {
      return;
    }
    const { key, make, fill } = this.options;
    const { scrollTop, clientHeight } = this.scroller;
    const from = Math.max(0, Math.floor(scrollTop / height) - overscan);
    const to = Math.min(this.items.length, Math.ceil((scrollTop + clientHeight) / height) + overscan);
    const wanted = new Set();
    for (let at = from; at < to; at++) {
      wanted.add(key(this.items[at]));
    }
    const focused = document.activeElement?.closest('.row');
    for (const [id, row] of this.#rows) {
      if (!wanted.has(id) && (row !== focused || !this.#positions.has(id))) {
        this.#rows.delete(id);
        row.remove();
        this.#spare.push(row);
      }
    }
    this.body.style.height = `${this.items.length * height}px`;
    for (let at = from; at < to; at++) {
      const id = key(this.items[at]);
      let row = this.#rows.get(id);
      if (!row) {
        row = this.#spare.pop() ?? make();
        row.dataset.key = id;
        this.#rows.set(id, row);
      }
      this.#place(row, at, height);
      fill(row, this.items[at]);
    }
    // Whoever has the page read aloud gets the rows in their order.
    let next = this.body.firstElementChild;
    for (let at = from; at < to; at++) {
      const row = /** @type {HTMLElement} */ (this.#rows.get(key(this.items[at])));
      if (row === next) {
        next = next.nextElementSibling;
      } else {
        this.body.insertBefore(row, next);
      }
    }
    this.#spare.length = Math.min(this.#spare.length, 50);
    if (focused instanceof HTMLElement && this.#rows.get(focused.dataset.key ?? '') === focused) {
      const at = this.#positions.get(focused.dataset.key ?? '');
      if (at !== undefined && (at < from || at >= to)) {
        this.#place(focused, at, height);
      }
    }
    this.#tabStop();
  }

  /** @param {HTMLElement} row @param {number} at @param {number} height */
  #place(row, at, height) {
    const transform = `translateY(${at * height}px)`;
    if (row.style.transform !== transform) {
      row.style.transform = transform;
      row.setAttribute('aria-rowindex', String(at + 2)); // the first is the head
    }
  }

  /** Draws rows again that are in sight. @param {Iterable<string>} keys */
  refill(keys) {
    for (const id of keys) {
      const row = this.#rows.get(id);
      const at = this.#positions.get(id);
      if (row && at !== undefined) {
        this.options.fill(row, this.items[at]);
      }
    }
  }

  refillAll() {
    this.refill(this.#rows.keys());
  }

  /** One row can be reached with the tab key: the active one, else the first that is drawn. */
  #tabStop() {
    const stop = this.#rows.has(this.#active) ? this.#active : this.items.length > 0 ? this.#topKey() : '';
    for (const [id, row] of this.#rows) {
      const link = /** @type {HTMLElement} */ (row.querySelector('a'));
      link.tabIndex = id === stop ? 0 : -1;
      row.classList.toggle('active', id === this.#active);
    }
  }

  #topKey() {
    const at = Math.min(this.items.length - 1, Math.ceil(this.scroller.scrollTop / this.#rowHeight()));
    return this.options.key(this.items[at]);
  }

  /** The key of the active row, '' for none. */
  get active() {
    return this.#active;
  }

  /** Makes a row active where it is. @param {string} id */
  mark(id) {
    this.#active = this.#positions.has(id) ? id : '';
    this.#tabStop();
  }

  /** Makes a row active, and brings it into sight and focus. @param {string} id */
  activate(id) {
    const at = this.#positions.get(id);
    if (at === undefined) {
      return;
    }
    this.#active = id;
    const height = this.#rowHeight();
    const { scrollTop, clientHeight } = this.scroller;
    if (at * height < scrollTop) {
      this.scroller.scrollTop = at * height;
    } else if ((at + 1) * height > scrollTop + clientHeight) {
      this.scroller.scrollTop = (at + 1) * height - clientHeight;
    }
    this.draw();
    /** @type {HTMLElement | null | undefined} */ (this.#rows.get(id)?.querySelector('a'))?.focus({ preventScroll: true });
  }

  /** Makes the next or the previous row active. @param {number} by */
  move(by) {
    if (this.items.length === 0) {
      return;
    }
    const at = this.#positions.get(this.#active);
    const next = at === undefined ? this.#positions.get(this.#topKey()) ?? 0 : Math.max(0, Math.min(this.items.length - 1, at + by));
    this.activate(this.options.key(this.items[next]));
  }
}
