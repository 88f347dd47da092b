// A watched table that a tab shows: its rows, the latest change last, as they are read and as the stream tells of them.
// What the stream said since the reading began counts more than what was read.

/**
 * A row. `op` is what was done to it, '' for one that was read; `at` is when, milliseconds since 1970, 0 for before.
 * @typedef {{id: string, payload: any, op: string, at: number}} Entity
 */

const maxRows = 1000;

export class Table {
  /** @type {Map<string, Entity>} */ rows = new Map();
  error = ''; // why it could not be read
  loaded = false; // that was tried

  /** @type {Iterable<import('./tab.js').Tab>} */ #tabs;

  /** @param {string} type @param {Iterable<import('./tab.js').Tab>} tabs that learn of changes, if they want this type */
  constructor(type, tabs) {
    this.type = type;
    this.#tabs = tabs;
  }

  /** Takes over what was read. @param {any} body @param {number} began when the reading did */
  merge({ items, more }, began) {
    const there = new Set();
    for (const { entity_id, payload } of items.reverse()) { // the highest key last: it is shown first
      const id = String(entity_id);
      there.add(id);
      const known = this.rows.get(id);
      if (!known || known.at < began) {
        this.#put({ id, payload, op: '', at: known?.at ?? 0 });
      }
    }
    for (const [id, { at }] of this.rows) {
      if (!there.has(id) && at < began && !more) {
        this.#remove(id);
      }
    }
  }

  /** Applies what the stream says. @param {import('../attune.js').Notification} note @param {unknown} op of its payload */
  apply({ entity_id, notification_type, payload }, op) {
    const id = String(entity_id);
    if (op === 'deleted') {
      this.#remove(id);
    } else {
      this.#put({ id, payload, op: String(op ?? '') || notification_type, at: Date.now() });
    }
  }

  /** @param {Entity} entity */
  #put(entity) {
    this.rows.delete(entity.id); // so that the latest change comes last
    this.rows.set(entity.id, entity);
    this.#changed(entity.id);
    for (const id of this.rows.keys()) {
      if (this.rows.size <= maxRows) {
        break;
      }
      this.#remove(id);
    }
  }

  /** @param {string} id */
  #remove(id) {
    this.rows.delete(id);
    this.#changed(id);
  }

  /** @param {string} id */
  #changed(id) {
    for (const tab of this.#tabs) {
      tab.rowChanged(this.type, id);
    }
  }
}
