// What the feed says of itself, above all whether what it holds is true now.
//
// It is live while the stream is open, the server hears its database, and everything was read since the stream was
// opened. Whatever makes that doubtful, a gap for instance, ends it until everything was read once more; what becomes
// doubtful while everything is being read is not settled by that read. Without a stream, looking every few seconds makes
// it polling, and failing to makes it stale.

/**
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
 * @typedef {import('../attune.js').State} Stream
 */

const pollEvery = 5000; // milliseconds
const longestPause = 30_000;
const silentAfter = 20_000;

/** Before anything is known. @returns {State} */
export const firstState = () => ({
  phase: 'connecting', since: Date.now(), signIn: false, error: '', executions: 'unknown', loaded: false, complete: false,
  writable: false, skew: 0, types: [],
});

/** Whether what is held can be trusted, and when everything is to be read again. */
export class Trust {
  #trusted = false; // everything was read since the stream was opened
  #doubted = false; // the trust was lost while everything was being read
  #lastRead = 0; // when the last read that succeeded began
  #lastTry = 0;
  #pause = pollEvery;
  #lost = 0; // when it was last live

  /** Everything is being read. */
  begin() {
    this.#doubted = false;
    this.#lastTry = Date.now();
  }

  /** That succeeded. @param {Stream | undefined} stream */
  succeed(stream) {
    this.#lastRead = this.#lastTry;
    this.#pause = Math.max(pollEvery, 20 * (Date.now() - this.#lastTry));
    this.#trusted = stream?.phase === 'open' && !this.#doubted;
  }

  /** It did not: the next try comes later. */
  fail() {
    this.#pause = Math.min(longestPause, this.#pause * 1.5) * (0.75 + Math.random() / 2);
    this.#trusted = false;
  }

  /** Something may be missing. */
  doubt() {
    this.#trusted = false;
    this.#doubted = true;
  }

  /** @param {Stream | undefined} stream */
  #live(stream) {
    return stream?.phase === 'open' && stream.mode === 'live' && this.#trusted;
  }

  /** Whether everything is to be read again. @param {State} state @param {Stream | undefined} stream */
  due({ loaded }, stream) {
    return !this.#live(stream) && Date.now() - this.#lastTry > (loaded ? this.#pause : 2000);
  }

  /** @param {State} state whose phase is the one before @param {Stream | undefined} stream @returns {State} with that of now */
  judge(state, stream) {
    const { phase: before, error, loaded } = state;
    let { phase, since } = state;
    const now = Date.now();
    const live = this.#live(stream);
    if (before === 'live' && !live) {
      // A server that went silent was right, as far as is known, when it was last heard.
      const heard = stream?.heard ?? 0;
      this.#lost = now;
      since = now - heard > silentAfter ? heard : now;
    }
    if (!loaded) {
      phase = 'connecting';
    } else if (live) {
      phase = 'live';
    } else if (!error && this.#lastRead > this.#lost && now - this.#lastRead < 2 * this.#pause) {
      phase = 'polling';
    } else if (before !== 'connecting' || error) {
      phase = 'stale';
    }
    if (phase !== before && before !== 'live') {
      since = phase === 'stale' ? this.#lastRead || now : now;
    }
    return { ...state, phase, since };
  }
}
