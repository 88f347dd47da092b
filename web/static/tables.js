// The view of watched tables: which entity types there are, the rows of one as they change, and, without one, every
// notification as it comes.

import { h, put, show } from './dom.js';
import { clock, pretty } from './format.js';
import { noteItem } from './execution.js';
import { List } from './list.js';

/**
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./store.js').Change} Change
 * @typedef {import('./feed/table.js').Entity} Entity
 */

const mostColumns = 8;

export class TablesView {
  title = 'Tables';
  #type = '';
  #columns = '';
  #pointer = false;
  /** @type {List<string> | undefined} */ #list;
  #drawnNote = '';

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.heading = h('h1', { id: 'view-title' }, 'Tables');
    this.types = h('nav', { className: 'types', 'aria-label': 'Entity types' });
    this.place = h('div', { className: 'place' });
    this.notes = h('ol', { className: 'notes' });
    this.log = h('section', { className: 'card log' }, h('h2', null, 'Every notification, newest first'), this.notes);
    this.quiet = h('p', { className: 'faint', id: 'quiet' }, 'None since this page was opened.');
    this.log.append(this.quiet);
    this.error = h('div', { className: 'empty', hidden: true });
    this.summary = h('p', { className: 'faint', id: 'summary' }, ' ');
    this.row = h('dialog', { className: 'sheet', 'aria-labelledby': 'row-title' });
    this.node = h('section', { className: 'view tables', 'aria-labelledby': 'view-title' },
      h('div', { className: 'bar' }, this.heading), this.types, this.error, this.place, this.log, this.summary, this.row);
  }

  /** @param {URLSearchParams} query */
  open(query) {
    this.#type = query.get('table') ?? '';
    this.title = this.#type || 'Tables';
    put(this.heading, this.title);
    this.store.want(this.#type ? { entity: this.#type } : { notes: true });
    this.#columns = '';
    this.#list = undefined;
    this.place.replaceChildren();
    this.notes.replaceChildren();
    this.#drawnNote = '';
    show(this.place, this.#type !== '');
    show(this.log, this.#type === '');
    this.#draw();
  }

  /** @param {Change} change */
  update(change) {
    if (change.any) {
      this.#draw();
    }
  }

  tick() {}

  close() {
    this.row.close();
  }

  /** @param {KeyboardEvent} event */
  key({ key }) {
    switch (key) {
      case 'j': case 'ArrowDown': this.#list?.move(1); return this.#list !== undefined;
      case 'k': case 'ArrowUp': this.#list?.move(-1); return this.#list !== undefined;
      case 'Escape':
        if (document.activeElement instanceof HTMLElement) {
          document.activeElement.blur();
        }
        return true;
    }
    return false;
  }

  #draw() {
    const { state, entities, entitiesError, entitiesLoaded } = this.store;
    const names = [...new Set([...state.types, ...this.#type ? [this.#type] : []])].sort();
    if (this.types.dataset.types !== names.join() + this.#type) {
      this.types.dataset.types = names.join() + this.#type;
      this.types.replaceChildren(...names.map((name) => h('a', { href: `?table=${encodeURIComponent(name)}`, ...name === this.#type && { 'aria-current': 'page' } }, name)));
    }
    if (!this.#type) {
      put(this.summary, names.length > 0 ? ' ' : 'No table is watched. This watches one: attune db watch TABLE');
      this.#drawNotes();
      return;
    }
    const rows = [...entities.values()].reverse(); // the latest change comes first
    const vacant = rows.length === 0;
    show(this.error, vacant);
    if (vacant) {
      put(this.error, !entitiesLoaded ? 'Reading…' : entitiesError ? `${entitiesError}. Rows appear here when they change.` : 'There are no rows.');
    } else {
      this.#drawRows(rows);
    }
    put(this.summary, vacant ? ' ' : `${rows.length.toLocaleString('en')} rows${entitiesError ? ', those that changed since this page was opened' : ''}`);
  }

  /** @param {Entity[]} rows */
  #drawRows(rows) {
    /** @type {Set<string>} */
    const columns = new Set();
    for (const { payload } of rows.slice(0, 50)) {
      Object.keys(payload ?? {}).forEach((name) => ['op', 'entity_type', 'entity_id', 'user_id'].includes(name) || name.startsWith('old_') || columns.add(name));
    }
    const names = [...columns].slice(0, mostColumns);
    if (!this.#list || this.#columns !== names.join()) {
      this.#columns = names.join();
      this.#list = this.#newList(names);
      this.place.replaceChildren(this.#list.node);
    }
    const held = this.#pointer || this.#list.scroller.scrollTop > 0 || this.#list.scroller.contains(document.activeElement);
    if (held && this.#list.items.length > 0) {
      this.#list.refillAll(); // rows stay where they are under a hand, and change in place
    } else {
      this.#list.set(rows.map(({ id }) => id));
    }
  }

  /** @param {string[]} names */
  #newList(names) {
    const list = new List({
      label: this.#type, key: (/** @type {string} */ id) => id, onScroll: () => {},
      columns: [{ name: 'Changed', className: 'age' }, { name: 'Key', className: 'id' }, ...names.map((name) => ({ name, className: 'value' }))],
      make: () => h('div', { role: 'row', className: 'row' }, h('div', { role: 'cell', className: 'age' }), h('div', { role: 'cell', className: 'id' }, h('a', { tabIndex: -1 })),
        ...names.map(() => h('div', { role: 'cell', className: 'value' }))),
      fill: (row, id) => {
        const entity = this.store.entities.get(id);
        const [aged, link, ...values] = [...row.children];
        put(link.firstChild, id);
        /** @type {HTMLAnchorElement} */ (link.firstChild).href = `#${encodeURIComponent(id)}`;
        put(aged, entity ? entity.at ? clock(entity.at) : '' : 'deleted');
        values.forEach((cell, at) => {
          const value = entity?.payload?.[names[at]];
          put(cell, value === null || value === undefined ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value));
        });
      },
    });
    list.node.style.setProperty('--columns', String(names.length));
    list.body.addEventListener('pointerenter', () => { this.#pointer = true; });
    list.body.addEventListener('pointerleave', () => { this.#pointer = false; });
    list.body.addEventListener('click', (event) => {
      const id = /** @type {HTMLElement} */ (event.target).closest('.row')?.getAttribute('data-key');
      event.preventDefault();
      if (id) {
        this.#show(id);
      }
    });
    return list;
  }

  /** Shows one row whole. @param {string} id */
  #show(id) {
    const close = h('button', { type: 'button' }, 'Close');
    close.addEventListener('click', () => this.row.close());
    this.row.replaceChildren(h('h2', { id: 'row-title' }, `${this.#type} ${id}`), h('pre', { tabIndex: 0 }, pretty(this.store.entities.get(id)?.payload ?? null)),
      h('p', { className: 'faint' }, 'Wait for it in a terminal: ', h('code', null, `attune wait ${this.#type}:${id} --until COLUMN=VALUE`)), h('div', { className: 'buttons' }, close));
    this.row.showModal();
  }

  #drawNotes() {
    const { notes } = this.store;
    show(this.quiet, notes.length === 0);
    const first = notes[0]?.cursor ?? '';
    if (first === this.#drawnNote || this.notes.matches(':hover, :focus-within') && this.#drawnNote) {
      return;
    }
    const known = notes.findIndex(({ cursor }) => cursor === this.#drawnNote);
    this.#drawnNote = first;
    this.notes.prepend(...notes.slice(0, known < 0 ? 100 : known).map(noteItem));
    while (this.notes.children.length > 100) {
      this.notes.lastElementChild?.remove();
    }
  }
}
