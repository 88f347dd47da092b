// The feed: the one place where the dashboard's data come in. It runs once per browser, in a SharedWorker (worker.js),
// or in the page where there is none, and every panel of every tab shows what it holds.
//
// Read, then follow: the newest executions are read page by page, and the stream starts from the cursor that came with
// the first page, so nothing falls between. What the stream says while something is read counts more than that. After a
// gap, and after every lost connection, everything is read again, quietly; only then is it called live. Notifications are
// applied in the order of the stream and never by their times: `updated` is when a transaction began, and a later commit
// may bear the earlier one.
//
// Tabs are told in batches, the next one when the last was acknowledged. Meanwhile only the ids of what changed are
// kept, so a tab that sleeps costs nothing and gets the latest state when it wakes.

import { AttuneError, connect, read } from './attune.js';
import { byId, isTerminal } from './format.js';

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
 *
 * What only an opened execution has; null while it is being read.
 * @typedef {{id: string, parameters: any, result: any, executor: string, error: string} | null} Detail
 *
 * @typedef {{id: string, payload: any, op: string, at: number}} Entity
 *
 * `live`: what is shown is true now. `polling`: it was at the last look, a few seconds ago. `stale`: since then.
 * @typedef {object} State
 * @property {'connecting' | 'live' | 'polling' | 'stale'} phase
 * @property {number} since when the phase began; for stale, the last moment at which the data were known to be true
 * @property {boolean} signIn somebody has to sign in
 * @property {string} error why it is neither live nor polling
 * @property {'unknown' | 'yes' | 'none'} executions whether the database has them
 * @property {boolean} loaded the first page was read
 * @property {boolean} complete there are no executions besides those that are held
 * @property {boolean} writable executions may be started and cancelled here
 * @property {number} skew the server's clock less this one, milliseconds
 * @property {string[]} types entity types that were seen, executions not among them
 *
 * What a tab wants to be told of, besides executions.
 * @typedef {{stats?: boolean, execution?: string, entity?: string, notes?: boolean}} Wants
 *
 * @typedef {object} Batch
 * @property {State} state
 * @property {Execution[]} executions that are new or changed
 * @property {string[]} removed
 * @property {Wants} wants that the following is about
 * @property {import('./attune.js').Notification[]} notes of the execution that is wanted, or all
 * @property {Detail} [detail]
 * @property {any} [stats]
 * @property {{rows: Entity[], removed: string[], error: string, loaded: boolean}} [entities]
 * @property {boolean} [more] the rest follows at once
 *
 * @typedef {{type: 'wants', wants: Wants} | {type: 'ack'} | {type: 'wake'} | {type: 'retry'} | {type: 'bye'} |
 *   {type: 'lock', name: string}} Request
 */

export const maxExecutions = 10_000;
const pageSize = 500; // what the server gives at most
const batchSize = 1000; // what a tab takes in well under a frame or two
const batchEvery = 50; // milliseconds
const pollEvery = 5000;
const maxSeen = 16;
const maxNotes = 200;
const maxRecent = 300;
const maxPayload = 32_768; // characters of a payload that is kept
const maxEntities = 1000;

/** @param {unknown} text RFC 3339 */
const time = (text) => (typeof text === 'string' ? Date.parse(text) || 0 : 0);
/** @param {unknown} value */
const text = (value) => (value === null || value === undefined ? '' : String(value));

/** @param {import('./attune.js').Notification} note @param {Wants} wants */
const concerns = (note, wants) => wants.notes || wants.execution !== undefined && note.entity_type === 'execution' && String(note.entity_id) === wants.execution;

/** A tab. */
class Tab {
  /** @type {Set<string>} */ changed = new Set();
  /** @type {Set<string>} */ removed = new Set();
  /** @type {Set<string>} of entities */ rows = new Set();
  /** @type {import('./attune.js').Notification[]} */ notes = [];
  /** @type {Wants} */ wants = {};
  busy = false;
  told = {}; // the state, detail and statistics that it has

  /** @param {MessagePort} port */
  constructor(port) {
    this.port = port;
  }
}

export class Feed {
  /** @type {Map<string, Execution>} */ #executions = new Map();
  /** @type {Set<Tab>} */ #tabs = new Set();
  #heard = 0; // notifications, so far
  /** The numbers of those that told of a deletion, by id. @type {Map<string, number>} */ #deleted = new Map();
  /** @type {import('./attune.js').Notification[]} */ #recent = [];
  /** @type {Map<string, Detail>} */ #details = new Map();
  /** By type. @type {Map<string, {rows: Map<string, Entity>, error: string, loaded: boolean}>} */ #entities = new Map();
  /** @type {Set<string>} */ #unclear = new Set();
  /** @type {any} */ #stats;
  /** @type {import('./attune.js').Connection | undefined} */ #connection;
  /** @type {State} */
  #state = {
    phase: 'connecting', since: Date.now(), signIn: false, error: '', executions: 'unknown', loaded: false, complete: false,
    writable: false, skew: 0, types: [],
  };
  #trusted = false; // everything was read since the stream was opened
  #doubted = false; // the trust was lost while everything was being read
  #wanted = false; // everything is to be read (again)
  #busy = false; // it is being read
  #readNumber = 0;
  #lastRead = 0; // when the last read that succeeded began
  #lastTry = 0;
  #pollPause = pollEvery;
  #readTook = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #flushing;
  #lastFlush = 0;

  /** @param {URL} root of the server */
  constructor(root) {
    this.root = root;
    setInterval(() => this.#tick(), 1000);
    void this.refresh();
    void this.#readStats();
  }

  /** Serves a tab. @param {MessagePort} port */
  add(port) {
    const tab = new Tab(port);
    this.#tabs.add(tab);
    this.#newest().forEach((id) => tab.changed.add(id));
    port.onmessage = (event) => this.#handle(tab, event.data);
    this.#flush();
    this.#connection?.check();
  }

  /** @param {Tab} tab @param {Request} request */
  #handle(tab, request) {
    switch (request.type) {
      case 'ack':
        tab.busy = false;
        break;
      case 'wants':
        this.#want(tab, request.wants);
        break;
      case 'wake':
        this.#connection?.check();
        break;
      case 'retry':
        this.#become({ signIn: false });
        this.#connection?.reconnect();
        void this.refresh();
        void this.#readStats();
        break;
      case 'lock': // held as long as the tab lives, however it ends
        void navigator.locks?.request(request.name, () => this.#drop(tab));
        break;
      case 'bye':
        this.#drop(tab);
        break;
    }
    this.#flush();
  }

  /** @param {Tab} tab */
  #drop(tab) {
    this.#tabs.delete(tab);
    tab.port.close();
    this.#forget();
  }

  // --- reading -----------------------------------------------------------------------------------------------------

  /** Reads everything again, until that succeeds. */
  async refresh() {
    this.#wanted = true;
    if (this.#busy) {
      return;
    }
    this.#busy = true;
    try {
      while (this.#wanted) {
        this.#wanted = this.#doubted = false;
        this.#lastTry = Date.now();
        await this.#readAll();
        await Promise.all([...this.#details.keys()].map((id) => this.#readOne(id)));
        await Promise.all([...this.#entities.keys()].map((type) => this.#readEntities(type)));
        this.#lastRead = this.#lastTry;
        this.#readTook = Date.now() - this.#lastTry;
        this.#pollPause = Math.max(pollEvery, 20 * this.#readTook);
        this.#trusted = this.#connection?.state.phase === 'open' && !this.#doubted;
        this.#become({ error: '' });
        if (this.#connection?.state.phase === 'waiting') {
          this.#connection.reconnect(); // the server is there
        }
      }
    } catch (error) {
      this.#pollPause = Math.min(30_000, this.#pollPause * 1.5) * (0.75 + Math.random() / 2);
      this.#failed(error);
    } finally {
      this.#busy = false;
    }
  }

  /** @param {unknown} error of a read */
  #failed(error) {
    this.#trusted = false;
    if (error instanceof AttuneError && error.status === 401) {
      this.#become({ signIn: true, error: 'sign in to go on' });
    } else {
      this.#become({ error: error instanceof AttuneError ? error.message : 'the server does not answer' });
    }
  }

  async #readAll() {
    const number = ++this.#readNumber;
    const heard = this.#heard;
    this.#deleted.clear();
    let before = '';
    let count = 0;
    /** @param {string} query @returns {Promise<any>} */
    const page = async (query) => {
      const { body, cursor, skew, since } = await this.#read(`executions?brief=true&limit=${pageSize}${query}`);
      for (const item of body.items) {
        this.#merge(item, since, number);
      }
      count += body.items.length;
      if (!this.#connection) {
        this.#become({ executions: 'yes', loaded: true, skew: Math.abs(skew) > 2000 ? skew : 0 });
        this.#follow(cursor);
      }
      this.#flush();
      return body.next_before;
    };
    try {
      do {
        before = text(await page(before && `&before=${before}`));
      } while (before && count < maxExecutions);
    } catch (error) {
      if (!(error instanceof AttuneError && error.code === 'no_executions')) {
        throw error;
      }
      this.#become({ executions: 'none', loaded: true, complete: true });
      if (!this.#connection) {
        this.#follow();
      }
      return;
    }
    if (before) { // what goes on is shown however old it is
      for (const status of ['requested', 'scheduling', 'scheduled', 'running', 'canceling']) {
        await page(`&status=${status}&before=${before}`);
      }
    }
    for (const [id, execution] of this.#executions) {
      if (execution.reading !== number && (execution.heard ?? 0) <= heard && (!before || byId(id, before) < 0)) {
        this.#remove(id);
      }
    }
    this.#become({ complete: !before });
  }

  /** @param {string} path @returns what was read, and the number of the last notification that came before */
  async #read(path) {
    const sent = Date.now();
    const since = this.#heard;
    const { body, cursor, date } = await read(new URL(path, this.root));
    return { body, cursor, since, skew: date ? date + 500 - (sent + Date.now()) / 2 : 0 };
  }

  /**
   * Takes over a row that was read, unless the stream told of it meanwhile: that may be newer, and the rest follows.
   * @param {any} item @param {number} since the number of the last notification before the read @param {number} [number] of the read
   */
  #merge(item, since, number) {
    const id = String(item.id);
    const known = this.#executions.get(id);
    if (known) {
      known.reading = number ?? known.reading;
    }
    if ((known?.heard ?? this.#deleted.get(id) ?? 0) > since) {
      return;
    }
    /** @type {Execution} */
    const now = {
      id, action: text(item.action_ref), parent: text(item.parent), status: text(item.status), created: time(item.created),
      started: time(item.started_at), updated: time(item.updated), seen: known?.seen ?? [], reading: number ?? this.#readNumber,
      heard: known?.heard,
    };
    if (!known || known.status !== now.status || known.updated !== now.updated || known.started !== now.started ||
        known.parent !== now.parent || known.action !== now.action) {
      this.#put(now, now.updated);
    }
  }

  /** @param {Execution} execution @param {number} at when it got its status */
  #put(execution, at) {
    const last = execution.seen.at(-1);
    if (last?.[0] !== execution.status) {
      execution.seen = [...execution.seen, /** @type {[string, number]} */ ([execution.status, at])].slice(-maxSeen);
    }
    this.#executions.set(execution.id, execution);
    this.#changed(execution.id);
    if (this.#executions.size > maxExecutions + 1000) {
      this.#trim();
    }
  }

  /** Forgets those that have been over for longest. */
  #trim() {
    const over = [...this.#executions.values()].filter(({ status }) => isTerminal(status)).sort((a, b) => a.updated - b.updated);
    for (const { id } of over.slice(0, this.#executions.size - maxExecutions)) {
      this.#remove(id);
    }
    this.#become({ complete: false });
  }

  /** @param {string} id */
  #remove(id) {
    this.#executions.delete(id);
    for (const tab of this.#tabs) {
      tab.changed.delete(id);
      tab.removed.add(id);
    }
  }

  /** @param {string} id */
  #changed(id) {
    for (const tab of this.#tabs) {
      tab.removed.delete(id);
      tab.changed.add(id);
    }
  }

  #newest() {
    return [...this.#executions.keys()].sort(byId);
  }

  // --- following ---------------------------------------------------------------------------------------------------

  /** @param {string} [cursor] @param {string} [filter] */
  #follow(cursor, filter = 'all') {
    this.#connection = connect({
      url: this.root, cursor, filters: [filter], mode: 'latest',
      onNotification: (notification) => this.#apply(notification),
      onGap: () => this.#distrust(),
      onState: ({ phase, error }) => {
        if (phase === 'open') {
          // Also where the position was resumed: what a database's triggers send past its log is in no replay.
          if (this.#state.phase !== 'connecting') {
            this.#distrust();
          } else {
            this.#trusted = !this.#busy; // the first stream: it starts before the first row was read
          }
        } else if (phase === 'refused' && error instanceof AttuneError && error.status === 403 && filter === 'all') {
          const { cursor: position } = /** @type {import('./attune.js').Connection} */ (this.#connection);
          this.#connection?.close();
          this.#follow(position, 'entity_type:execution'); // a token may be for some things alone
        } else if (phase === 'refused' && error instanceof AttuneError) {
          this.#failed(error);
        }
        this.#become({});
      },
    });
  }

  #distrust() {
    this.#trusted = false;
    this.#doubted = true;
    this.#become({});
    void this.refresh();
  }

  /** @param {import('./attune.js').Notification} notification */
  #apply(notification) {
    const { entity_type: type, payload } = notification;
    this.#heard++;
    const id = String(notification.entity_id);
    const size = JSON.stringify(payload)?.length ?? 0;
    const note = size > maxPayload ? { ...notification, payload: `${size} characters` } : notification;
    this.#recent.push(note);
    if (this.#recent.length > maxRecent) {
      this.#recent.shift();
    }
    for (const tab of this.#tabs) {
      if (concerns(note, tab.wants)) {
        tab.notes.push(note);
        tab.notes.splice(0, tab.notes.length - maxNotes);
      }
    }
    if (type === 'execution' && this.#state.executions !== 'none') {
      this.#applyExecution(id, payload, time(notification.timestamp));
      if (this.#details.has(id)) {
        void this.#readOne(id);
      }
    } else {
      this.#applyEntity(type, id, payload, note);
    }
    this.#flush();
  }

  /** @param {string} id @param {any} payload @param {number} at */
  #applyExecution(id, payload, at) {
    if (payload?.op === 'deleted') {
      this.#deleted.set(id, this.#heard);
      this.#remove(id);
      return;
    }
    const known = this.#executions.get(id);
    /** @param {string} name @param {any} before */
    const member = (name, before) => (payload && name in payload ? payload[name] : before);
    const now = {
      id, action: text(member('action_ref', known?.action)), parent: text(member('parent', known?.parent)),
      status: text(member('status', known?.status)), created: time(payload?.created) || (known?.created ?? 0),
      started: time(payload?.started_at) || (known?.started ?? 0), updated: time(payload?.updated) || at,
      seen: known?.seen ?? [], reading: known?.reading, heard: this.#heard,
    };
    if (now.status) {
      this.#put(now, at);
    }
    if (!payload?.status || !now.action || !now.created || now.status === 'running' && !('started_at' in payload)) {
      this.#clarify(id); // whoever sent this does not tell all
    }
  }

  /** Reads executions of which notifications told too little, several at a time. @param {string} id */
  #clarify(id) {
    this.#unclear.add(id);
    if (this.#unclear.size > 1) {
      return;
    }
    setTimeout(async () => {
      const ids = [...this.#unclear];
      this.#unclear.clear();
      if (ids.length > 20) {
        void this.refresh();
        return;
      }
      for (const unclear of ids) {
        try {
          const { body, since } = await this.#read(`executions/${unclear}`);
          this.#merge(body, since);
        } catch {
          // Gone, or the server is; the next read of everything tells.
        }
      }
      this.#flush();
    }, batchEvery);
  }

  // --- what tabs want besides --------------------------------------------------------------------------------------

  /** @param {Tab} tab @param {Wants} wants */
  #want(tab, wants) {
    tab.wants = wants;
    tab.told = {};
    tab.notes = this.#recent.filter((note) => concerns(note, wants)).slice(-maxNotes);
    tab.rows = new Set(wants.entity && this.#entities.get(wants.entity)?.rows.keys());
    this.#forget();
    if (wants.execution && !this.#details.has(wants.execution)) {
      this.#details.set(wants.execution, null);
      void this.#readOne(wants.execution);
      void this.#readChildren(wants.execution);
    }
    if (wants.entity && !this.#entities.has(wants.entity)) {
      this.#entities.set(wants.entity, { rows: new Map(), error: '', loaded: false });
      void this.#readEntities(wants.entity);
    }
    if (wants.stats) {
      void this.#readStats();
    }
  }

  /** Forgets what no tab wants any more. */
  #forget() {
    const tabs = [...this.#tabs];
    for (const id of this.#details.keys()) {
      if (!tabs.some(({ wants }) => wants.execution === id)) {
        this.#details.delete(id);
      }
    }
    for (const type of this.#entities.keys()) {
      if (!tabs.some(({ wants }) => wants.entity === type)) {
        this.#entities.delete(type);
      }
    }
  }

  /** @type {Map<string, boolean>} by id, whether it is to be read once more */ #readingOne = new Map();

  /** @param {string} id */
  async #readOne(id) {
    if (this.#readingOne.has(id)) {
      this.#readingOne.set(id, true);
      return;
    }
    do {
      this.#readingOne.set(id, false);
      try {
        const { body, since } = await this.#read(`executions/${encodeURIComponent(id)}`);
        this.#merge(body, since);
        this.#tell(id, { id, parameters: body.parameters, result: body.result, executor: text(body.executor), error: '' });
      } catch (error) {
        if (error instanceof AttuneError && [400, 404].includes(error.status)) {
          this.#tell(id, { id, parameters: null, result: null, executor: '', error: error.message });
        }
      }
      this.#flush();
    } while (this.#readingOne.get(id));
    this.#readingOne.delete(id);
  }

  /** @param {string} id @param {Detail} detail */
  #tell(id, detail) {
    if (this.#details.has(id)) {
      this.#details.set(id, detail);
    }
  }

  /** @param {string} parent */
  async #readChildren(parent) {
    let before = '';
    try {
      for (let pages = 0; pages === 0 || before && pages < maxExecutions / 2 / pageSize; pages++) {
        const { body, since } = await this.#read(`executions?brief=true&limit=${pageSize}&parent=${encodeURIComponent(parent)}${before && `&before=${before}`}`);
        body.items.forEach((/** @type {any} */ item) => this.#merge(item, since));
        before = text(body.next_before);
        this.#flush();
      }
    } catch {
      // Those that are held are shown; the next read of everything says what is wrong.
    }
  }

  /** @param {string} type */
  async #readEntities(type) {
    const entities = this.#entities.get(type);
    if (!entities) {
      return;
    }
    try {
      const began = Date.now();
      const { body } = await this.#read(`entities/${encodeURIComponent(type)}?limit=${pageSize}`);
      const there = new Set();
      for (const { entity_id, payload } of body.items.reverse()) { // the highest key last: it is shown first
        const id = String(entity_id);
        there.add(id);
        const known = entities.rows.get(id);
        if (!known || known.at < began) {
          this.#putEntity(type, { id, payload, op: '', at: known?.at ?? 0 });
        }
      }
      for (const [id, { at }] of entities.rows) {
        if (!there.has(id) && at < began && !body.more) {
          this.#removeEntity(type, id);
        }
      }
      entities.error = '';
    } catch (error) {
      entities.error = error instanceof AttuneError ? error.message : 'the server does not answer';
    }
    entities.loaded = true;
    for (const tab of this.#tabs) {
      tab.told = {};
    }
    this.#flush();
  }

  /** @param {string} type @param {string} id @param {any} payload @param {import('./attune.js').Notification} note */
  #applyEntity(type, id, payload, note) {
    if (!this.#state.types.includes(type)) {
      this.#become({ types: [...this.#state.types, type].sort() });
    }
    if (!this.#entities.has(type)) {
      return;
    }
    if (payload?.op === 'deleted') {
      this.#removeEntity(type, id);
    } else {
      this.#putEntity(type, { id, payload: note.payload, op: text(payload?.op) || note.notification_type, at: Date.now() });
    }
  }

  /** @param {string} type @param {Entity} entity */
  #putEntity(type, entity) {
    const rows = this.#entities.get(type)?.rows;
    if (!rows) {
      return;
    }
    rows.delete(entity.id); // so that the latest change comes last
    rows.set(entity.id, entity);
    this.#entityChanged(type, entity.id);
    for (const id of rows.keys()) {
      if (rows.size <= maxEntities) {
        break;
      }
      this.#removeEntity(type, id);
    }
  }

  /** @param {string} type @param {string} id */
  #removeEntity(type, id) {
    this.#entities.get(type)?.rows.delete(id);
    this.#entityChanged(type, id);
  }

  /** @param {string} type @param {string} id */
  #entityChanged(type, id) {
    for (const tab of this.#tabs) {
      if (tab.wants.entity === type) {
        tab.rows.add(id);
      }
    }
  }

  async #readStats() {
    try {
      const { body } = await this.#read('stats');
      this.#stats = { ...body, at: Date.now() };
      this.#become({ writable: body.executions === 'read_write' });
    } catch (error) {
      this.#stats = { error: error instanceof AttuneError ? error.message : 'the server does not answer', at: Date.now() };
    }
    try {
      const { body } = await this.#read('entities');
      const types = new Set([...this.#state.types, ...body.items.map((/** @type {any} */ item) => item.entity_type)]);
      types.delete('execution');
      this.#become({ types: [...types].sort() });
    } catch {
      // No log is followed, so no tables are watched: types are seen as notifications come.
    }
    this.#flush();
  }

  // --- telling -----------------------------------------------------------------------------------------------------

  #tick() {
    const now = Date.now();
    const open = this.#connection?.state.phase === 'open' && this.#connection.state.mode === 'live';
    if (!this.#busy && !this.#state.signIn && (!open || !this.#trusted) && now - this.#lastTry > (this.#state.loaded ? this.#pollPause : 2000)) {
      void this.refresh();
    }
    if ([...this.#tabs].some(({ wants }) => wants.stats) && now - this.#stats?.at > 1900) {
      void this.#readStats();
    }
    this.#become({});
  }

  /** @param {Partial<State>} change */
  #become(change) {
    const before = this.#state;
    const next = { ...before, ...change };
    const connection = this.#connection?.state;
    const live = connection?.phase === 'open' && connection.mode === 'live' && this.#trusted;
    if (before.phase === 'live' && !live) {
      // A server that went silent was right, as far as is known, when it was last heard.
      const heard = connection?.heard ?? 0;
      this.#lost = Date.now();
      next.since = this.#lost - heard > 20_000 ? heard : this.#lost;
    }
    if (!next.loaded) {
      next.phase = 'connecting';
    } else if (live) {
      next.phase = 'live';
    } else if (!next.error && this.#lastRead > this.#lost && Date.now() - this.#lastRead < 2 * this.#pollPause) {
      next.phase = 'polling';
    } else if (before.phase !== 'connecting' || next.error) {
      next.phase = 'stale';
    }
    if (next.phase !== before.phase && before.phase !== 'live') {
      next.since = next.phase === 'stale' ? this.#lastRead || Date.now() : Date.now();
    }
    if (JSON.stringify(next) !== JSON.stringify(before)) {
      this.#state = next;
      this.#flush();
    }
  }

  #lost = 0; // when it was last live

  /** Tells all tabs what is new, soon, and once for all that comes until then. */
  #flush() {
    this.#flushing ??= setTimeout(() => {
      this.#flushing = undefined;
      this.#lastFlush = Date.now();
      for (const tab of this.#tabs) {
        this.#send(tab);
      }
    }, Math.max(0, this.#lastFlush + batchEvery - Date.now()));
  }

  /** @param {Tab} tab */
  #send(tab) {
    const { wants } = tab;
    const detail = wants.execution ? this.#details.get(wants.execution) : undefined;
    const stats = wants.stats ? this.#stats : undefined;
    const entities = wants.entity ? this.#entities.get(wants.entity) : undefined;
    const told = { state: this.#state, detail, stats, loaded: entities?.loaded };
    const before = /** @type {typeof told} */ (tab.told);
    if (tab.busy || tab.changed.size + tab.removed.size + tab.notes.length + tab.rows.size === 0 &&
        before.state === told.state && before.detail === detail && before.stats === stats && before.loaded === told.loaded) {
      return;
    }
    /** @type {Batch} */
    const batch = { state: this.#state, wants, executions: [], removed: [...tab.removed], notes: tab.notes, detail, stats };
    for (const id of tab.changed) {
      if (batch.executions.length === batchSize) {
        batch.more = true;
        break;
      }
      tab.changed.delete(id);
      batch.executions.push(/** @type {Execution} */ (this.#executions.get(id)));
    }
    if (entities) {
      const ids = [...tab.rows];
      batch.entities = {
        rows: ids.flatMap((id) => entities.rows.get(id) ?? []), removed: ids.filter((id) => !entities.rows.has(id)),
        error: entities.error, loaded: entities.loaded,
      };
    }
    tab.removed = new Set();
    tab.rows = new Set();
    tab.notes = [];
    tab.told = told;
    tab.busy = true;
    tab.port.postMessage(batch);
  }
}
