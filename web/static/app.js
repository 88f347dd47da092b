// The start page: live executions, or every notification where the database has none.
//
// Read, then follow: the list comes with a cursor that was taken before its rows were read, and the stream starts
// from that cursor, so nothing falls between. Replayed notifications may show an execution's earlier states for a
// moment; they end at the newest, because each is applied in the order of the stream. After a gap the list is read
// again, and what the stream brought meanwhile is applied on top of it.

/**
 * What is known of an execution. An id is text here and is never calculated with: ids are 64-bit integers, and a
 * JavaScript number is exact up to 2^53 only.
 * @typedef {{id: string, action_ref?: string, status?: string, created?: string}} Execution
 *
 * @typedef {{notification_type: string, entity_type: string, entity_id: number | string,
 *   payload: Record<string, unknown>, timestamp: string}} Notification
 */

const shownExecutions = 50;
const shownNotifications = 100;

/** @type {Map<string, Execution>} by id */
const executions = new Map();
/** What the stream brought while the list was being read. @type {Map<string, Execution>} */
const meanwhile = new Map();
/** The table's rows, by execution id. @type {Map<string, HTMLTableRowElement>} */
const rows = new Map();

/** @type {EventSource | undefined} */
let stream;
/** The latest position seen: where a new stream starts. */
let cursor = '';
let raw = false; // show notifications instead of executions
/** @type {'connecting' | 'open' | 'lost'} */
let connection = 'connecting';
let mode = 'live'; // of the server's source
let stale = false; // the list is to be read again before it is believed
let doubted = false; // it became stale since the present read began
let wanted = false; // the list is to be read (again)
let reading = false;
let failures = 0; // of the stream, in a row
let drawing = false;
let lastTick = Date.now();
let lastRead = 0;

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

// --- reading -------------------------------------------------------------------------------------------------------

/** @param {string} text JSON */
const parse = (text) => JSON.parse(text, exact);

/**
 * JSON.parse loses the last digits of integers beyond 2^53. Where the browser hands the number's own text to a reviver,
 * such an integer becomes that text; older browsers show a wrong id there.
 * @param {string} _ @param {any} value @param {{source?: string}} [context]
 */
function exact(_, value, context) {
  return typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? value) : value;
}

/** @param {number} attempt from 0 @returns milliseconds, random in part, so that pages do not come back all at once */
const backoff = (attempt) => Math.min(30_000, 1000 * 2 ** attempt) * (0.5 + Math.random() / 2);

/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Reads the newest executions into the map. @returns {Promise<string>} the cursor to follow from */
async function load() {
  meanwhile.clear();
  const answer = await fetch(`executions?limit=${shownExecutions}`, { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  const text = await answer.text();
  if (!answer.ok) {
    const problem = (answer.headers.get('Content-Type') ?? '').startsWith('application/problem+json') ? parse(text) : {};
    throw Object.assign(new Error(`/executions answered ${answer.status}: ${problem.detail ?? problem.title ?? answer.statusText}`), { code: problem.code });
  }
  executions.clear();
  for (const item of parse(text).items) {
    executions.set(String(item.id), { ...item, id: String(item.id) });
  }
  for (const execution of meanwhile.values()) {
    merge(execution);
  }
  drawNow(); // before the badge says that it is true
  // Should something on the way drop the header, this text is answered by a gap, and the list is read again.
  return answer.headers.get('Attune-Cursor') ?? 'none';
}

/** Reads the list until that succeeds and nothing asks for it any more. @returns {Promise<string>} the last one's cursor */
async function refresh() {
  wanted = true;
  let at = '';
  if (reading) {
    return at;
  }
  reading = true;
  for (let attempt = 0; wanted && !raw;) {
    wanted = doubted = false;
    try {
      at = await load();
      lastRead = Date.now();
      attempt = 0;
      stale = doubted;
      notice('');
      badge();
      if (wanted) {
        await pause(500);
      }
    } catch (err) {
      if (/** @type {{code?: string}} */ (err).code === 'no_executions') {
        raw = true;
        if (stream) {
          void restart();
        }
        break;
      }
      wanted = true;
      stale = true;
      notice(err instanceof Error ? err.message : String(err));
      badge();
      await pause(backoff(attempt++));
    }
  }
  reading = false;
  return at;
}

/** Takes over what a notification says of an execution. @param {Execution} news */
function merge(news) {
  const known = { ...executions.get(news.id), ...news };
  executions.set(news.id, known);
  if (!news.status || !known.action_ref || !known.created) {
    void refresh(); // whoever sent this does not tell all
  }
  draw();
}

// --- following -----------------------------------------------------------------------------------------------------

/** Opens the stream at the cursor, instead of the one before. */
function follow() {
  stream?.close();
  const query = new URLSearchParams(raw ? {} : { filter: 'entity_type:execution' });
  if (cursor) {
    query.set('cursor', cursor);
  }
  const source = stream = new EventSource(`events?${query}`);

  /** @param {string} name @param {(data: any, before: string) => void} handle gets the cursor before, too */
  const on = (name, handle) => source.addEventListener(name, (event) => {
    if (source !== stream) {
      return; // late news of a stream that was replaced
    }
    const { data, lastEventId } = /** @type {MessageEvent<string>} */ (event);
    const before = cursor;
    cursor = lastEventId || cursor;
    handle(parse(data), before);
  });
  on('welcome', (welcome, before) => {
    if (before && welcome.cursor !== before) {
      missed('not resumed'); // a gap says so next, unless the connection breaks right here: the browser has this cursor now
    }
    if (connection === 'lost' && !raw) {
      // What a database's triggers send past its log is in no replay and under no promise, so read, even after a
      // position was resumed. The badge waits for that.
      stale = doubted = true;
      void refresh();
    }
    connection = 'open';
    failures = 0;
    setMode(welcome.mode);
  });
  on('status', (status) => setMode(status.mode));
  on('gap', (gap) => missed(gap.reason));
  on('message', (/** @type {Notification} */ notification) => {
    if (raw) {
      logNotification(notification);
      return;
    }
    const news = { .../** @type {Partial<Execution>} */ (notification.payload), id: String(notification.entity_id) };
    if (reading) {
      meanwhile.set(news.id, { ...meanwhile.get(news.id), ...news });
    }
    merge(news);
  });
  source.addEventListener('error', () => {
    if (source !== stream) {
      return;
    }
    connection = 'lost';
    badge();
    // The browser comes back by itself with the last cursor, unless the answer was no stream. Then it is up to the
    // page; reading the list first brings the server's reason to light.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => source === stream && void restart(), backoff(failures++));
    }
  });
}

/** Reads the list and follows from the last position, at the beginning from the list's own. */
async function restart() {
  if (!raw) {
    const at = await refresh();
    cursor ||= at;
  }
  element('executions').hidden = raw;
  element('notifications').hidden = !raw;
  follow();
}

/** Follows again after a pause that the stream may not have survived. */
function resume() {
  connection = 'lost';
  badge();
  follow();
}

/** Notifications may be missing. @param {string} reason */
function missed(reason) {
  if (raw) {
    logGap(reason);
  } else {
    void refresh();
  }
}

/** @param {string} now */
function setMode(now) {
  mode = now;
  badge();
}

// --- showing -------------------------------------------------------------------------------------------------------

/** Says whether what is shown is true at this moment. The text changes with the state only, so that it does not chatter. */
function badge() {
  const badge = element('badge');
  const state = stale || connection === 'lost' ? 'reconnecting' : connection === 'open' ? mode : connection;
  if (badge.dataset.state !== state) {
    badge.dataset.state = state;
    badge.textContent = state === 'live' || state === 'connecting' ? state : `${state} since ${clock(new Date())}`;
  }
}

/** @param {string} text nothing hides the notice */
function notice(text) {
  element('notice').textContent = text;
  element('notice').hidden = !text;
}

/** @param {Date} at */
const clock = (at) => at.toTimeString().slice(0, 8);

/** @param {string | undefined} at RFC 3339 */
function age(at) {
  const seconds = Math.floor((Date.now() - Date.parse(at ?? '')) / 1000);
  if (!(seconds >= 1)) {
    return at ? 'now' : ''; // the two clocks may differ
  }
  for (const [unit, size] of /** @type {[string, number][]} */ ([['d', 86_400], ['h', 3600], ['min', 60]])) {
    if (seconds >= size) {
      return `${Math.floor(seconds / size)} ${unit} ago`;
    }
  }
  return `${seconds} s ago`;
}

/** Newest first. Decimal texts compare by length, then digit by digit. @param {Execution} a @param {Execution} b */
const byId = (a, b) => b.id.length - a.id.length || (a.id < b.id ? 1 : -1);

/**
 * Draws the table soon, and once, however many changes come until then. By the clock and not by animation frames: a
 * hidden page has none, and the map would grow.
 */
function draw() {
  if (!drawing) {
    drawing = true;
    setTimeout(drawNow, 20);
  }
}

function drawNow() {
  drawing = false;
  const sorted = [...executions.values()].sort(byId);
  for (const { id } of sorted.splice(shownExecutions)) {
    executions.delete(id);
  }
  for (const [id, row] of rows) {
    if (!executions.has(id)) {
      row.remove();
      rows.delete(id);
    }
  }
  const body = element('rows');
  sorted.forEach((execution, at) => {
    const row = rows.get(execution.id) ?? newRow(execution.id);
    fill(row, execution);
    if (body.children[at] !== row) {
      body.insertBefore(row, body.children[at] ?? null);
    }
  });
  element('table').hidden = sorted.length === 0;
  element('empty').hidden = sorted.length !== 0;
}

/** @param {string} id */
function newRow(id) {
  const row = document.createElement('tr');
  const link = document.createElement('a');
  link.href = `executions/${encodeURIComponent(id)}`;
  link.textContent = id;
  row.insertCell().append(link);
  row.insertCell();
  const status = document.createElement('span');
  status.className = 'status';
  row.insertCell().append(status);
  row.insertCell().append(document.createElement('time'));
  rows.set(id, row);
  return row;
}

/** @param {HTMLTableRowElement} row @param {Execution} execution */
function fill(row, execution) {
  const status = /** @type {HTMLElement} */ (row.cells[2].firstChild);
  const time = /** @type {HTMLTimeElement} */ (row.cells[3].firstChild);
  row.cells[1].textContent = execution.action_ref ?? '';
  status.textContent = status.dataset.status = execution.status ?? '';
  time.dateTime = time.title = execution.created ?? '';
  time.textContent = age(execution.created);
}

/** @param {Notification} notification */
function logNotification({ notification_type, entity_type, entity_id, payload, timestamp }) {
  const time = document.createElement('time');
  time.dateTime = timestamp;
  time.textContent = clock(new Date(timestamp));
  const code = document.createElement('code');
  code.textContent = JSON.stringify(payload);
  log(time, ` ${notification_type} ${entity_type} ${entity_id}`, code);
}

/** @param {string} reason */
function logGap(reason) {
  log(`${clock(new Date())} gap: notifications may be missing here (${reason})`).className = 'gap';
}

/** @param {(Node | string)[]} parts */
function log(...parts) {
  const list = element('log');
  const item = document.createElement('li');
  item.append(...parts);
  list.prepend(item);
  while (list.children.length > shownNotifications) {
    list.lastElementChild?.remove();
  }
  element('quiet').hidden = true;
  return item;
}

function tick() {
  const now = Date.now();
  if (now - lastTick > 90_000 && connection === 'open') {
    resume(); // the machine slept: the connection may be dead without anyone having said so
  }
  lastTick = now;
  for (const [id, row] of rows) {
    const time = row.cells[3].firstChild;
    const text = age(executions.get(id)?.created);
    if (time && time.textContent !== text) {
      time.textContent = text;
    }
  }
  if (mode === 'degraded' && !raw && !document.hidden && now - lastRead > 5000) {
    void refresh(); // notifications do not arrive now, so look
  }
}

setInterval(tick, 1000);
addEventListener('pagehide', () => stream?.close());
addEventListener('pageshow', (event) => event.persisted && resume()); // back from the browser's page cache
void restart();
