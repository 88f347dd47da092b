// The store of a tab: a copy of what the feed holds. It has no data of its own, so panels and tabs never disagree.

import { Feed } from './feed.js';
import { firstState } from './feed/state.js';
import { byId } from './format.js';

/**
 * @typedef {import('./feed/executions.js').Execution} Execution
 * @typedef {import('./feed/tab.js').Batch} Batch
 *
 * What came since the last time.
 * @typedef {object} Change
 * @property {boolean} members executions came or went
 * @property {Set<string>} executions that came, went or changed
 * @property {boolean} any
 */

export class Store {
  /** @type {Map<string, Execution>} */ executions = new Map();
  /** Newest first. @type {string[]} */ order = [];
  /** By parent, children newest first. @type {Map<string, string[]>} */ children = new Map();
  state = firstState();
  /** @type {import('./feed/tab.js').Wants} */ wants = {};
  /** Of the execution that is wanted, newest first. @type {import('./attune.js').Notification[]} */ notes = [];
  /** @type {import('./feed.js').Detail} */ detail = null;
  /** @type {any} */ stats;
  /** Of the type that is wanted; the latest change comes last. @type {Map<string, import('./feed/table.js').Entity>} */ entities = new Map();
  entitiesError = '';
  entitiesLoaded = false;
  filled = false; // everything that the feed had at the beginning has come

  /** @type {MessagePort} */ #port;
  /** @type {() => void} */ #onChange;
  /** @type {Change} */ #change = { members: false, executions: new Set(), any: false };

  /** @param {URL} root of the server @param {() => void} onChange is called for every batch */
  constructor(root, onChange) {
    this.root = root;
    this.#onChange = onChange;
    this.#port = this.#open();
    addEventListener('pagehide', () => this.#post({ type: 'bye' }));
    addEventListener('pageshow', (event) => event.persisted && location.reload()); // the feed has forgotten this tab
    addEventListener('online', () => this.wake());
    document.addEventListener('visibilitychange', () => document.hidden || this.wake());
  }

  #open() {
    /** @type {MessagePort} */
    let port;
    if (typeof SharedWorker === 'function' && !new URLSearchParams(location.search).has('alone')) {
      // One worker for each version of the script, and for each server root.
      port = new SharedWorker(new URL('worker.js', import.meta.url), { type: 'module', name: this.root.href }).port;
    } else {
      const channel = new MessageChannel();
      new Feed(this.root).add(channel.port1);
      port = channel.port2;
    }
    port.onmessage = (event) => this.#take(event.data);
    // The feed sees that a tab is gone, however it went, when it gets the tab's lock.
    if (navigator.locks) {
      const name = `attune tab ${crypto.randomUUID?.() ?? Math.random()}`;
      void navigator.locks.request(name, () => {
        this.#post({ type: 'lock', name });
        return new Promise(() => {});
      });
    }
    return port;
  }

  /** @param {import('./feed/tab.js').Request} request */
  #post(request) {
    this.#port.postMessage(request);
  }

  /** Asks for what a view needs besides executions. @param {import('./feed/tab.js').Wants} wants */
  want(wants) {
    if (JSON.stringify(wants) === JSON.stringify(this.wants)) {
      return;
    }
    this.wants = wants;
    this.notes = [];
    this.detail = null;
    this.entities = new Map();
    this.entitiesError = '';
    this.entitiesLoaded = false;
    this.#post({ type: 'wants', wants });
  }

  /** The tab was away: the stream may be dead. */
  wake() {
    this.#post({ type: 'wake' });
  }

  /** Somebody has signed in, or wants it tried again. */
  retry() {
    this.#post({ type: 'retry' });
  }

  /** Says that what came is drawn, so that the next batch may come. @returns {Change} what came since the last time */
  drawn() {
    const change = this.#change;
    this.#change = { members: false, executions: new Set(), any: false };
    return change;
  }

  /** Lets the next batch come. */
  ack() {
    this.#post({ type: 'ack' });
  }

  /** The server's time now. */
  now() {
    return Date.now() + this.state.skew;
  }

  /** @param {Batch} batch */
  #take(batch) {
    const { executions, removed, state, wants } = batch;
    const { phase, since } = this.state;
    this.state = batch.more ? { ...state, phase, since } : state; // not called live before all of it is here
    /** @type {string[]} */
    const added = [];
    for (const execution of executions) {
      const known = this.executions.get(execution.id);
      this.executions.set(execution.id, execution);
      if (!known) {
        added.push(execution.id);
      }
      if (known?.parent !== execution.parent) {
        this.#adopt(execution, known);
      }
      this.#change.executions.add(execution.id);
    }
    if (added.length > 0) {
      this.order = merge(this.order, added.sort(byId));
    }
    if (removed.length > 0) {
      this.#remove(removed);
    }
    this.#change.members ||= added.length + removed.length > 0;
    this.#change.any = true;
    if (JSON.stringify(wants) === JSON.stringify(this.wants)) {
      this.notes = [...batch.notes.reverse(), ...this.notes].slice(0, 200);
      this.detail = batch.detail ?? this.detail;
      this.stats = batch.stats ?? this.stats;
      if (batch.entities) {
        batch.entities.removed.forEach((id) => this.entities.delete(id));
        for (const entity of batch.entities.rows) {
          this.entities.delete(entity.id);
          this.entities.set(entity.id, entity);
        }
        this.entitiesError = batch.entities.error;
        this.entitiesLoaded = batch.entities.loaded;
      }
    }
    this.filled ||= state.loaded && !batch.more;
    this.#onChange();
  }

  /** @param {Execution} execution @param {Execution | undefined} known as it was */
  #adopt({ id, parent }, known) {
    if (known?.parent) {
      this.children.set(known.parent, (this.children.get(known.parent) ?? []).filter((child) => child !== id));
    }
    if (parent) {
      this.children.set(parent, merge(this.children.get(parent) ?? [], [id]));
      this.#change.executions.add(parent);
      this.#change.members = true;
    }
  }

  /** @param {string[]} removed */
  #remove(removed) {
    const gone = new Set(removed);
    for (const id of removed) {
      const parent = this.executions.get(id)?.parent;
      if (parent) {
        const rest = (this.children.get(parent) ?? []).filter((child) => child !== id);
        if (rest.length > 0) {
          this.children.set(parent, rest);
        } else {
          this.children.delete(parent);
        }
      }
      this.executions.delete(id);
      this.#change.executions.add(id);
    }
    this.order = this.order.filter((id) => !gone.has(id));
  }
}

/** Two lists, newest first each, as one. @param {string[]} a @param {string[]} b */
function merge(a, b) {
  if (a.length === 0 || b.length === 0) {
    return a.length === 0 ? b : a;
  }
  if (byId(b[b.length - 1], a[0]) < 0) {
    return [...b, ...a]; // all newer
  }
  const all = [];
  let i = 0;
  for (const id of b) {
    while (i < a.length && byId(a[i], id) < 0) {
      all.push(a[i++]);
    }
    if (a[i] !== id) {
      all.push(id);
    }
  }
  return [...all, ...a.slice(i)];
}
