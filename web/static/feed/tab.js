// A tab, as the feed sees it: what it wants, and what it has not been told yet.
//
// A tab is told in batches, the next one when it acknowledged the last. Meanwhile only the ids of what changed are kept,
// so a tab that sleeps costs nothing and gets the latest state when it wakes.

/**
 * What a tab wants to be told of, besides executions.
 * @typedef {{stats?: boolean, execution?: string, entity?: string, notes?: boolean}} Wants
 *
 * What a tab says.
 * @typedef {{type: 'wants', wants: Wants} | {type: 'ack'} | {type: 'wake'} | {type: 'retry'} | {type: 'bye'} |
 *   {type: 'lock', name: string}} Request
 *
 * What a tab is told.
 * @typedef {object} Batch
 * @property {import('./state.js').State} state
 * @property {import('./executions.js').Execution[]} executions that are new or changed
 * @property {string[]} removed
 * @property {Wants} wants that the following is about
 * @property {Notification[]} notes of the execution that is wanted, or all
 * @property {import('../feed.js').Detail} [detail]
 * @property {any} [stats]
 * @property {{rows: import('./table.js').Entity[], removed: string[], error: string, loaded: boolean}} [entities]
 * @property {boolean} [more] the rest follows at once
 *
 * @typedef {import('../attune.js').Notification} Notification
 */

const batchSize = 1000; // executions: what a tab takes in well under a frame or two
const maxNotes = 200;

export class Tab {
  /** @type {Wants} */ wants = {};

  /** @type {Set<string>} */ #changed;
  /** @type {Set<string>} */ #removed = new Set();
  /** @type {Set<string>} of the table that is wanted */ #rows = new Set();
  /** @type {Notification[]} */ #notes = [];
  #busy = false; // it did not acknowledge the last batch
  #told = {}; // the state, detail and statistics that it has

  /** @param {MessagePort} port @param {string[]} ids of the executions, in the order in which they are told */
  constructor(port, ids) {
    this.port = port;
    this.#changed = new Set(ids);
  }

  /** @param {Wants} wants @param {Notification[]} recent @param {Iterable<string>} rows of the table, if that is held */
  want(wants, recent, rows) {
    this.wants = wants;
    this.#told = {};
    this.#notes = recent.filter((note) => this.#concerned(note)).slice(-maxNotes);
    this.#rows = new Set(rows);
  }

  /** @param {string} id of an execution that is new or changed */
  changed(id) {
    this.#removed.delete(id);
    this.#changed.add(id);
  }

  /** @param {string} id of an execution */
  removed(id) {
    this.#changed.delete(id);
    this.#removed.add(id);
  }

  /** @param {string} type @param {string} id of a row that is new, changed or gone */
  rowChanged(type, id) {
    if (this.wants.entity === type) {
      this.#rows.add(id);
    }
  }

  /** @param {Notification} note */
  hear(note) {
    if (this.#concerned(note)) {
      this.#notes.push(note);
      this.#notes.splice(0, this.#notes.length - maxNotes);
    }
  }

  /** @param {Notification} note */
  #concerned({ entity_type, entity_id }) {
    return this.wants.notes || this.wants.execution !== undefined && entity_type === 'execution' && String(entity_id) === this.wants.execution;
  }

  /** It acknowledged the last batch. */
  ack() {
    this.#busy = false;
  }

  /** Tells it what is new, unless it is busy. @param {import('../feed.js').Feed} feed */
  tell({ state, executions, details, tables, stats: figures }) {
    const { wants } = this;
    const detail = wants.execution ? details.get(wants.execution) : undefined;
    const stats = wants.stats ? figures : undefined;
    const table = wants.entity ? tables.get(wants.entity) : undefined;
    const told = { state, detail, stats, loaded: table?.loaded, error: table?.error };
    const before = /** @type {typeof told} */ (this.#told);
    if (this.#busy || this.#changed.size + this.#removed.size + this.#notes.length + this.#rows.size === 0 &&
        before.state === state && before.detail === detail && before.stats === stats &&
        before.loaded === told.loaded && before.error === told.error) {
      return;
    }
    /** @type {Batch} */
    const batch = { state, wants, executions: [], removed: [...this.#removed], notes: this.#notes, detail, stats };
    for (const id of this.#changed) {
      if (batch.executions.length === batchSize) {
        batch.more = true;
        break;
      }
      this.#changed.delete(id);
      batch.executions.push(/** @type {import('./executions.js').Execution} */ (executions.get(id)));
    }
    if (table) {
      const { rows, error, loaded } = table;
      const ids = [...this.#rows];
      batch.entities = { rows: ids.flatMap((id) => rows.get(id) ?? []), removed: ids.filter((id) => !rows.has(id)), error, loaded };
    }
    this.#removed = new Set();
    this.#rows = new Set();
    this.#notes = [];
    this.#told = told;
    this.#busy = true;
    this.port.postMessage(batch);
  }
}
