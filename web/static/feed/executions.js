// The executions that the feed holds: the newest, and those that go on. What was read and what was heard come together
// here, and every tab learns which of them changed.
//
// What the stream says while something is read counts more than that. Notifications are applied in the order of the
// stream and never by their times: `updated` is when a transaction began, and a later commit may bear the earlier one.

import { byId, isTerminal } from '../format.js';

/**
 * An execution as the dashboard knows it. Ids are text and never calculated with: they have 64 bits. Times are
 * milliseconds since 1970, 0 where there is none. `seen` are the statuses that passed by, with the server's times.
 * @typedef {object} Execution
 * @property {string} id
 * @property {string} action
 * @property {string} parent '' for none
 * @property {string} status
 * @property {number} created
 * @property {number} started
 * @property {number} updated
 * @property {[string, number][]} seen
 * @property {number} [reading] which read of everything had it
 * @property {number} [heard] the number of the last notification about it
 */

export const maxExecutions = 10_000;
const maxSeen = 16;

/** @param {unknown} text RFC 3339 */
const time = (text) => (typeof text === 'string' ? Date.parse(text) || 0 : 0);
/** @param {unknown} value */
const text = (value) => (value === null || value === undefined ? '' : String(value));

export class Executions {
  /** How many notifications told of one. What is read may lack those that come after the reading began. */
  heard = 0;
  /** There are none besides those that are held. */
  complete = false;

  /** @type {Map<string, Execution>} */ #held = new Map();
  /** The numbers of the notifications that told of a deletion, by id. @type {Map<string, number>} */ #deleted = new Map();
  #reading = 0; // the number of the last read of everything
  #heardBefore = 0; // it began
  /** @type {Iterable<import('./tab.js').Tab>} */ #tabs;

  /** @param {Iterable<import('./tab.js').Tab>} tabs that learn of changes; they come and go */
  constructor(tabs) {
    this.#tabs = tabs;
  }

  /** @param {string} id */
  get(id) {
    return this.#held.get(id);
  }

  /** All ids, newest first. */
  ids() {
    return [...this.#held.keys()].sort(byId);
  }

  /** A read of everything begins. */
  begin() {
    this.#reading++;
    this.#heardBefore = this.heard;
    this.#deleted.clear();
  }

  /** It succeeded: what it did not have is gone. @param {string} before the id down to which it read; '' for all */
  end(before) {
    for (const [id, execution] of this.#held) {
      if (execution.reading !== this.#reading && (execution.heard ?? 0) <= this.#heardBefore && (!before || byId(id, before) < 0)) {
        this.#remove(id);
      }
    }
    this.complete = !before;
  }

  /**
   * Takes over a row that was read, unless the stream told of it meanwhile: that may be newer, and the rest follows.
   * @param {any} item @param {number} since `heard` before the reading @param {boolean} [all] it is the read of everything
   */
  merge(item, since, all = false) {
    const id = String(item.id);
    const known = this.#held.get(id);
    if (known && all) {
      known.reading = this.#reading;
    }
    if ((known?.heard ?? this.#deleted.get(id) ?? 0) > since) {
      return;
    }
    /** @type {Execution} */
    const now = {
      id, action: text(item.action_ref), parent: text(item.parent), status: text(item.status), created: time(item.created),
      started: time(item.started_at), updated: time(item.updated), seen: known?.seen ?? [], reading: this.#reading,
      heard: known?.heard,
    };
    if (!known || known.status !== now.status || known.updated !== now.updated || known.started !== now.started ||
        known.parent !== now.parent || known.action !== now.action) {
      this.#put(now, now.updated);
    }
  }

  /**
   * Applies what the stream says.
   * @param {import('../attune.js').Notification} notification of an execution
   * @returns {boolean} whether it tells enough: if not, the execution has to be read
   */
  apply({ entity_id, payload, timestamp }) {
    const id = String(entity_id);
    const at = time(timestamp);
    this.heard++;
    if (payload?.op === 'deleted') {
      this.#deleted.set(id, this.heard);
      this.#remove(id);
      return true;
    }
    const known = this.#held.get(id);
    /** @param {string} name @param {any} before */
    const member = (name, before) => (payload && name in payload ? payload[name] : before);
    const now = {
      id, action: text(member('action_ref', known?.action)), parent: text(member('parent', known?.parent)),
      status: text(member('status', known?.status)), created: time(payload?.created) || (known?.created ?? 0),
      started: time(payload?.started_at) || (known?.started ?? 0), updated: time(payload?.updated) || at,
      seen: known?.seen ?? [], reading: known?.reading, heard: this.heard,
    };
    if (now.status) {
      this.#put(now, at);
    }
    return Boolean(payload?.status && now.action && now.created && (now.status !== 'running' || 'started_at' in payload));
  }

  /** @param {Execution} execution @param {number} at when it got its status */
  #put(execution, at) {
    const last = execution.seen.at(-1);
    if (last?.[0] !== execution.status) {
      execution.seen = [...execution.seen, /** @type {[string, number]} */ ([execution.status, at])].slice(-maxSeen);
    }
    this.#held.set(execution.id, execution);
    for (const tab of this.#tabs) {
      tab.changed(execution.id);
    }
    if (this.#held.size > maxExecutions + 1000) {
      this.#trim();
    }
  }

  /** Forgets those that have been over for longest. */
  #trim() {
    const over = [...this.#held.values()].filter(({ status }) => isTerminal(status)).sort((a, b) => a.updated - b.updated);
    for (const { id } of over.slice(0, this.#held.size - maxExecutions)) {
      this.#remove(id);
    }
    this.complete = false;
  }

  /** @param {string} id */
  #remove(id) {
    this.#held.delete(id);
    for (const tab of this.#tabs) {
      tab.removed(id);
    }
  }
}
