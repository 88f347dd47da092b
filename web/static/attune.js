/**
 * The browser client of attune: follow notifications of a PostgreSQL database, resume after whatever happens to the
 * connection, and know when something may be missing. It has no dependency and needs no build step:
 *
 *   import { connect, read } from '/attune.js';
 *
 *   const url = 'https://attune.example/';
 *   const { body, cursor } = await read(new URL('executions', url));
 *   show(body.items);
 *   const connection = connect({
 *     url, cursor,
 *     filters: ['entity_type:execution'],
 *     onNotification: ({ entity_id, payload }) => update(entity_id, payload),
 *     onGap: async () => show((await read(new URL('executions', url))).body.items),
 *     onState: ({ phase, mode }) => badge(phase === 'open' ? mode : phase),
 *   });
 *   // connection.close(), connection.reconnect(), connection.cursor, connection.state
 *
 * What it promises: each notification that matches and was committed after the cursor (without one: after the first
 * `open`) is handed to onNotification once, in commit order, or onGap is called. It speaks Server-Sent Events over
 * fetch rather than EventSource, because that shows the status of a refusal, takes a bearer token, and hears the
 * comments by which a silent connection can be told from a dead one.
 *
 * A page, a worker, Deno and Node can run it. Beside HTTP/1.1's six connections to a server a stream is one: pages that
 * are opened in many tabs should follow in a SharedWorker.
 */

/**
 * One notification. Ids of 64 bits beyond 2^53 come as text where the browser allows it (see `parse`).
 * @typedef {object} Notification
 * @property {'notification'} type
 * @property {string} notification_type the PostgreSQL channel
 * @property {string} entity_type
 * @property {number | string} entity_id
 * @property {number | string | null} user_id
 * @property {any} payload
 * @property {string} timestamp RFC 3339, when the server received it
 * @property {string} cursor
 * @property {number} [coalesced] with mode latest: how many earlier ones of this entity it stands for
 */

/**
 * Notifications may be missing before the cursor.
 * @typedef {object} Gap
 * @property {string} reason
 * @property {string} cursor
 */

/**
 * `connecting`: asking for the stream. `open`: following. `waiting`: lost, tried again at `retryAt`. `refused`: it makes
 * no sense to try again until somebody calls reconnect(), after signing in for instance. `closed`: by close().
 * @typedef {object} State
 * @property {'connecting' | 'open' | 'waiting' | 'refused' | 'closed'} phase
 * @property {'live' | 'degraded'} mode of the server's source: whether notifications arrive there
 * @property {number} heard when the server was last heard, milliseconds since 1970; 0: never
 * @property {number} [retryAt] milliseconds since 1970
 * @property {Error} [error] why the stream is not open; an AttuneError if the server said so
 */

/**
 * @typedef {object} Options
 * @property {string | URL} [url] of the server's root; default: where this module was loaded from
 * @property {string[]} [filters] `all`, `entity_type:<type>`, `entity:<type>:<id>`, `user:<id>`,
 *   `notification_type:<channel>`; a notification that matches one of them is delivered. Default: all
 * @property {string} [cursor] where to start; default: now
 * @property {'latest'} [mode] fall behind rather than be disconnected: of each entity only the last notification waits
 * @property {() => string | Promise<string>} [token] a bearer token, asked for at each attempt; default: the cookie
 * @property {(notification: Notification) => void} [onNotification]
 * @property {(gap: Gap) => unknown} [onGap] read the state again. While the promise that it returns is pending, the
 *   position stays before the gap; if it is rejected, the stream is made anew and the gap is told again
 * @property {(state: State) => void} [onState]
 */

/**
 * @typedef {object} Connection
 * @property {string} cursor the position of the last that was handled: what to resume from; '' before the first
 * @property {State} state
 * @property {() => void} reconnect makes the stream anew, at once, from the cursor
 * @property {() => void} check makes it anew if it may be dead: call it when a page was away
 * @property {() => void} close
 */

/** The server said no. */
export class AttuneError extends Error {
  /** @param {number} status of HTTP, 0 for none @param {string} code stable @param {string} message for people */
  constructor(status, code, message) {
    super(message);
    this.name = 'AttuneError';
    this.status = status;
    this.code = code;
  }
}

const silentAfter = 45_000; // the server comments every 15 s
const doubtfulAfter = 20_000; // when timers stood still meanwhile: the machine slept
const heldAfter = 5000; // a connection that held: begin anew with short pauses
const firstPause = 400;
const longestPause = 30_000;
const openWithin = 15_000;

/** Statuses after which the same request would be refused again. */
const final = new Set([400, 401, 403, 404, 405, 501]);

/**
 * Follows a server.
 * @param {Options} [options]
 * @returns {Connection}
 */
export function connect(options = {}) {
  const { filters = ['all'], mode, token, onNotification, onGap, onState } = options;
  const root = new URL(options.url ?? '.', options.url ? globalThis.location?.href : import.meta.url);
  let cursor = options.cursor ?? '';
  let ahead = ''; // where the stream is, while a gap is being handled
  let gaps = 0; // being handled
  let attempt = 0;
  let lastTick = Date.now();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {AbortController | undefined} */
  let stream;
  /** @type {State} */
  let state = { phase: 'connecting', mode: 'live', heard: 0 };

  /** @param {Partial<State>} change */
  function become(change) {
    state = { ...state, retryAt: undefined, error: undefined, ...change };
    onState?.(state);
  }

  /** Takes over a position that was handled, unless a gap before it is not. @param {string} position */
  function advance(position) {
    if (gaps === 0) {
      cursor = position;
    } else {
      ahead = position;
    }
  }

  /** @param {Gap} gap @param {AbortController} from */
  function handleGap(gap, from) {
    const done = onGap?.(gap);
    if (!(done instanceof Promise)) {
      advance(gap.cursor);
      return;
    }
    gaps++;
    ahead = gap.cursor;
    done.then(() => {
      if (from === stream && --gaps === 0) {
        cursor = ahead;
      }
    }, (error) => from === stream && lost(error));
  }

  /** Tries again after a pause. @param {Error} error @param {number} [atLeast] milliseconds */
  function lost(error, atLeast = 0) {
    stop();
    const pause = Math.max(atLeast, Math.min(longestPause, firstPause * 2 ** attempt++) * (0.5 + Math.random() / 2));
    timer = setTimeout(open, pause);
    become({ phase: 'waiting', error, retryAt: Date.now() + pause });
  }

  function stop() {
    clearTimeout(timer);
    stream?.abort();
    stream = undefined;
    gaps = 0;
  }

  async function open() {
    stop();
    become({ phase: 'connecting' });
    const mine = new AbortController();
    stream = mine;
    const url = new URL('events', root);
    filters.forEach((filter) => url.searchParams.append('filter', filter));
    if (mode) {
      url.searchParams.set('mode', mode);
    }
    if (cursor) {
      url.searchParams.set('cursor', cursor);
    }
    const asked = cursor;
    const late = setTimeout(() => mine === stream && lost(new Error('the server does not answer')), openWithin);
    let opened = 0;
    let retry = 0;
    let why = new Error('the connection was lost');
    try {
      const headers = new Headers({ Accept: 'text/event-stream' });
      if (token) {
        headers.set('Authorization', `Bearer ${await token()}`);
      }
      const answer = await fetch(url, { headers, signal: mine.signal, cache: 'no-store', credentials: 'include' });
      if (!answer.ok || !answer.body) {
        const error = await refusal(answer);
        if (mine !== stream) {
          return;
        }
        clearTimeout(late);
        if (final.has(answer.status)) {
          stop();
          become({ phase: 'refused', error });
        } else {
          lost(error, 1000 * Number(answer.headers.get('Retry-After') || 0));
        }
        return;
      }
      for await (const event of events(answer.body, () => { state.heard = Date.now(); }, (pause) => { retry = pause; })) {
        if (mine !== stream) {
          return;
        }
        const data = parse(event.data);
        switch (data.type) {
          case 'welcome':
            clearTimeout(late);
            opened = Date.now();
            if (!asked) {
              cursor = data.cursor; // the promise starts here
            }
            become({ phase: 'open', mode: data.mode });
            break;
          case 'notification':
            onNotification?.(data);
            advance(data.cursor);
            break;
          case 'gap':
            handleGap(data, mine);
            break;
          case 'status':
            become({ mode: data.mode });
            break;
          case 'bye':
            why = new AttuneError(0, data.reason, `the server ended the stream: ${data.reason}`);
            break;
        }
      }
    } catch (error) {
      why = error instanceof Error ? error : new Error(String(error));
    } finally {
      clearTimeout(late);
    }
    if (mine !== stream) {
      return; // replaced, or closed
    }
    if (opened && Date.now() - opened > heldAfter) {
      attempt = 0;
    }
    if (why instanceof AttuneError && why.code === 'access_withdrawn') {
      stop();
      become({ phase: 'refused', error: why });
    } else {
      lost(why, why instanceof AttuneError && why.code === 'server_shutdown' ? retry * Math.random() : 0);
    }
  }

  /** A connection can be dead without anyone having said so, above all after the machine slept. */
  function watch() {
    const now = Date.now();
    const silence = now - state.heard;
    const slept = now - lastTick > 5000;
    lastTick = now;
    if (state.phase === 'open' && (silence > silentAfter || slept && silence > doubtfulAfter)) {
      attempt = 0;
      open();
    } else if (state.phase === 'waiting' && slept) {
      open();
    }
  }

  const watching = setInterval(watch, 1000);
  const connection = {
    get cursor() { return cursor; },
    get state() { return state; },
    reconnect() {
      attempt = 0;
      open();
    },
    check() {
      if (state.phase === 'waiting' || state.phase === 'open' && Date.now() - state.heard > doubtfulAfter) {
        connection.reconnect();
      }
    },
    close() {
      stop();
      clearInterval(watching);
      become({ phase: 'closed' });
    },
  };
  open();
  return connection;
}

/**
 * Reads JSON, with the position to follow from.
 * @param {string | URL} url
 * @param {RequestInit} [init]
 * @returns {Promise<{body: any, cursor: string, date: number}>} `date` is the server's clock, milliseconds since 1970;
 *   rejected with an AttuneError where the server refuses
 */
export async function read(url, init) {
  const answer = await fetch(url, { cache: 'no-store', credentials: 'include', signal: AbortSignal.timeout(15_000), ...init });
  if (!answer.ok) {
    throw await refusal(answer);
  }
  // Should something on the way drop the header, this text is answered by a gap: the state is read again.
  const cursor = answer.headers.get('Attune-Cursor') ?? 'none';
  const text = await answer.text();
  return { body: text && parse(text), cursor, date: Date.parse(answer.headers.get('Date') ?? '') || 0 };
}

/** @param {Response} answer @returns {Promise<AttuneError>} */
async function refusal(answer) {
  const text = await answer.text().catch(() => '');
  const problem = (answer.headers.get('Content-Type') ?? '').startsWith('application/problem+json') ? parse(text) : {};
  return new AttuneError(answer.status, problem.code ?? 'unknown', problem.detail ?? `${answer.url} answered ${answer.status} ${answer.statusText}`);
}

/**
 * Parses JSON without losing the last digits of integers beyond 2^53: where the browser hands the number's own text to a
 * reviver, such an integer becomes that text. Older browsers show a wrong number there.
 * @param {string} text
 */
export const parse = (text) => (/\d{16}/.test(text) ? JSON.parse(text, exact) : JSON.parse(text));

/** @param {string} _ @param {any} value @param {{source?: string}} [context] */
function exact(_, value, context) {
  return typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? value) : value;
}

/**
 * The events of a stream (https://html.spec.whatwg.org/#event-stream-interpretation), as far as attune sends them.
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => void} heard is called for whatever arrives, comments too
 * @param {(milliseconds: number) => void} retry
 * @returns {AsyncGenerator<{data: string}>}
 */
async function* events(body, heard, retry) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  /** @type {string[]} */
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      heard();
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const raw of lines) {
        const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
        if (line === '') {
          if (data.length > 0) {
            yield { data: data.join('\n') };
            data = [];
          }
        } else if (line.startsWith('data:')) {
          data.push(line.slice(line[5] === ' ' ? 6 : 5));
        } else if (line.startsWith('retry:')) {
          retry(Number(line.slice(6)));
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
