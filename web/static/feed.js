// The feed: the one place where the dashboard's data come in. It runs once per browser, in a SharedWorker (worker.js),
// or in the page where there is none, and every panel of every tab shows what it holds.
//
// Read, then follow: the newest executions are read page by page, and the stream starts from the cursor that came with
// the first page, so nothing falls between. After a gap, and after every lost connection, everything is read again,
// quietly; only then is it called live (feed/state.js). What was read and what was heard come together in
// feed/executions.js and feed/table.js, and feed/tab.js keeps what each tab was told.

import { AttuneError, connect, read } from './attune.js';
import { Executions, maxExecutions } from './feed/executions.js';
import { firstState, Trust } from './feed/state.js';
import { Tab } from './feed/tab.js';
import { Table } from './feed/table.js';

/**
 * What only an opened execution has; null while it is being read.
 * @typedef {{id: string, parameters: any, result: any, executor: string, error: string} | null} Detail
 *
 * @typedef {import('./attune.js').Notification} Notification
 */

const pageSize = 500; // what the server gives at most
const flushEvery = 50; // milliseconds
const maxRecent = 300;
const maxPayload = 32_768; // characters of a payload that is kept

/** @param {unknown} error of a read */
const reason = (error) => (error instanceof AttuneError ? error.message : 'the server does not answer');

export class Feed {
  /** @type {Set<Tab>} */ #tabs = new Set();

  // What is held, and told.
  state = firstState();
  executions = new Executions(this.#tabs);
  /** Of executions that are wanted, by id. @type {Map<string, Detail>} */ details = new Map();
  /** Those that are wanted, by type. @type {Map<string, Table>} */ tables = new Map();
  /** @type {any} */ stats;

  /** @type {Notification[]} */ #recent = [];
  /** Executions of which notifications told too little. @type {Set<string>} */ #unclear = new Set();
  /** By id, whether it is to be read once more. @type {Map<string, boolean>} */ #readingOne = new Map();
  /** @type {import('./attune.js').Connection | undefined} */ #connection;
  #trust = new Trust();
  #wanted = false; // everything is to be read (again)
  #busy = false; // it is being read
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
    const tab = new Tab(port, this.executions.ids());
    this.#tabs.add(tab);
    port.onmessage = (event) => this.#handle(tab, event.data);
    this.#flush();
    this.#connection?.check();
  }

  /** @param {Tab} tab @param {import('./feed/tab.js').Request} request */
  #handle(tab, request) {
    switch (request.type) {
      case 'ack':
        tab.ack();
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
        this.#wanted = false;
        this.#trust.begin();
        await this.#readAll();
        await Promise.all([...this.details.keys()].map((id) => this.#readOne(id)));
        await Promise.all([...this.tables.values()].map((table) => this.#readTable(table)));
        this.#trust.succeed(this.#connection?.state);
        this.#become({ error: '' });
        if (this.#connection?.state.phase === 'waiting') {
          this.#connection.reconnect(); // the server is there
        }
      }
    } catch (error) {
      this.#trust.fail();
      this.#failed(error);
    } finally {
      this.#busy = false;
    }
  }

  /** @param {unknown} error of a read */
  #failed(error) {
    if (error instanceof AttuneError && error.status === 401) {
      this.#become({ signIn: true, error: 'sign in to go on' });
    } else {
      this.#become({ error: reason(error) });
    }
  }

  async #readAll() {
    this.executions.begin();
    let before = '';
    let count = 0;
    /** @param {string} query @returns {Promise<any>} */
    const page = async (query) => {
      const { body, cursor, skew, since } = await this.#read(`executions?brief=true&limit=${pageSize}${query}`);
      for (const item of body.items) {
        this.executions.merge(item, since, true);
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
        before = String(await page(before && `&before=${before}`) ?? '');
      } while (before && count < maxExecutions);
    } catch (error) {
      if (!(error instanceof AttuneError && error.code === 'no_executions')) {
        throw error;
      }
      this.executions.complete = true;
      this.#become({ executions: 'none', loaded: true });
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
    this.executions.end(before);
  }

  /** @param {string} path @returns what was read, and how many notifications told of executions before */
  async #read(path) {
    const sent = Date.now();
    const since = this.executions.heard;
    const { body, cursor, date } = await read(new URL(path, this.root));
    return { body, cursor, since, skew: date ? date + 500 - (sent + Date.now()) / 2 : 0 };
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
          // Also where the position was resumed: what a database's triggers send past its log is in no replay. Not the
          // first time: that stream starts before the first row was read.
          if (this.state.phase !== 'connecting') {
            this.#distrust();
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
    this.#trust.doubt();
    this.#become({});
    void this.refresh();
  }

  /** @param {Notification} notification */
  #apply(notification) {
    const { entity_type: type, payload } = notification;
    const id = String(notification.entity_id);
    const size = JSON.stringify(payload)?.length ?? 0;
    const note = size > maxPayload ? { ...notification, payload: `${size} characters` } : notification;
    this.#recent.push(note);
    if (this.#recent.length > maxRecent) {
      this.#recent.shift();
    }
    for (const tab of this.#tabs) {
      tab.hear(note);
    }
    if (type === 'execution' && this.state.executions !== 'none') {
      if (!this.executions.apply(notification)) {
        this.#clarify(id);
      }
      if (this.details.has(id)) {
        void this.#readOne(id);
      }
    } else {
      if (!this.state.types.includes(type)) {
        this.#become({ types: [...this.state.types, type].sort() });
      }
      this.tables.get(type)?.apply(note, payload?.op);
    }
    this.#flush();
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
          this.executions.merge(body, since);
        } catch {
          // Gone, or the server is; the next read of everything tells.
        }
      }
      this.#flush();
    }, flushEvery);
  }

  // --- what tabs want besides --------------------------------------------------------------------------------------

  /** @param {Tab} tab @param {import('./feed/tab.js').Wants} wants */
  #want(tab, wants) {
    tab.want(wants, this.#recent, this.tables.get(wants.entity ?? '')?.rows.keys() ?? []);
    this.#forget();
    if (wants.execution && !this.details.has(wants.execution)) {
      this.details.set(wants.execution, null);
      void this.#readOne(wants.execution);
      void this.#readChildren(wants.execution);
    }
    if (wants.entity && !this.tables.has(wants.entity)) {
      const table = new Table(wants.entity, this.#tabs);
      this.tables.set(wants.entity, table);
      void this.#readTable(table);
    }
    if (wants.stats) {
      void this.#readStats();
    }
  }

  /** Forgets what no tab wants any more. */
  #forget() {
    const tabs = [...this.#tabs];
    for (const id of this.details.keys()) {
      if (!tabs.some(({ wants }) => wants.execution === id)) {
        this.details.delete(id);
      }
    }
    for (const type of this.tables.keys()) {
      if (!tabs.some(({ wants }) => wants.entity === type)) {
        this.tables.delete(type);
      }
    }
  }

  /** @param {string} id */
  async #readOne(id) {
    if (this.#readingOne.has(id)) {
      this.#readingOne.set(id, true);
      return;
    }
    do {
      this.#readingOne.set(id, false);
      /** @type {Detail} */
      let detail = null;
      try {
        const { body, since } = await this.#read(`executions/${encodeURIComponent(id)}`);
        this.executions.merge(body, since);
        detail = { id, parameters: body.parameters, result: body.result, executor: String(body.executor ?? ''), error: '' };
      } catch (error) {
        if (error instanceof AttuneError && [400, 404].includes(error.status)) {
          detail = { id, parameters: null, result: null, executor: '', error: error.message };
        }
      }
      if (detail && this.details.has(id)) {
        this.details.set(id, detail);
      }
      this.#flush();
    } while (this.#readingOne.get(id));
    this.#readingOne.delete(id);
  }

  /** @param {string} parent */
  async #readChildren(parent) {
    let before = '';
    try {
      for (let pages = 0; pages === 0 || before && pages < maxExecutions / 2 / pageSize; pages++) {
        const { body, since } = await this.#read(`executions?brief=true&limit=${pageSize}&parent=${encodeURIComponent(parent)}${before && `&before=${before}`}`);
        body.items.forEach((/** @type {any} */ item) => this.executions.merge(item, since));
        before = String(body.next_before ?? '');
        this.#flush();
      }
    } catch {
      // Those that are held are shown; the next read of everything says what is wrong.
    }
  }

  /** @param {Table} table */
  async #readTable(table) {
    try {
      const began = Date.now();
      const { body } = await this.#read(`entities/${encodeURIComponent(table.type)}?limit=${pageSize}`);
      table.merge(body, began);
      table.error = '';
    } catch (error) {
      table.error = reason(error);
    }
    table.loaded = true;
    this.#flush();
  }

  async #readStats() {
    try {
      const { body } = await this.#read('stats');
      this.stats = { ...body, at: Date.now() };
      this.#become({ writable: body.executions === 'read_write' });
    } catch (error) {
      this.stats = { error: reason(error), at: Date.now() };
    }
    try {
      const { body } = await this.#read('entities');
      const types = new Set([...this.state.types, ...body.items.map((/** @type {any} */ item) => item.entity_type)]);
      types.delete('execution');
      this.#become({ types: [...types].sort() });
    } catch {
      // No log is followed, so no tables are watched: types are seen as notifications come.
    }
    this.#flush();
  }

  // --- telling -----------------------------------------------------------------------------------------------------

  #tick() {
    if (!this.#busy && !this.state.signIn && this.#trust.due(this.state, this.#connection?.state)) {
      void this.refresh();
    }
    if ([...this.#tabs].some(({ wants }) => wants.stats) && Date.now() - this.stats?.at > 1900) {
      void this.#readStats();
    }
    this.#become({});
  }

  /** @param {Partial<import('./feed/state.js').State>} change */
  #become(change) {
    const next = this.#trust.judge({ ...this.state, ...change, complete: this.executions.complete }, this.#connection?.state);
    if (JSON.stringify(next) !== JSON.stringify(this.state)) {
      this.state = next;
      this.#flush();
    }
  }

  /** Tells all tabs what is new, soon, and once for all that comes until then. */
  #flush() {
    this.#flushing ??= setTimeout(() => {
      this.#become({}); // some executions may have been let go
      this.#flushing = undefined;
      this.#lastFlush = Date.now();
      for (const tab of this.#tabs) {
        tab.tell(this);
      }
    }, Math.max(0, this.#lastFlush + flushEvery - Date.now()));
  }
}
