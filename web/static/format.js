// How values are written, and what the statuses mean.

/** In the order in which an execution passes through them. */
export const statuses = ['requested', 'scheduling', 'scheduled', 'running', 'canceling', 'completed', 'failed', 'timeout', 'abandoned', 'cancelled'];

/** Other servers' spellings. @type {Record<string, string>} */
const spellings = { succeeded: 'completed', canceled: 'cancelled', timed_out: 'timeout' };

/** @param {string} status */
export const canonical = (status) => spellings[status] ?? status;

/** An execution with it will not change again; one that is not known may. @param {string} status */
export const isTerminal = (status) => ['completed', 'failed', 'cancelled', 'timeout', 'abandoned'].includes(canonical(status));

/** @param {string} status */
export const isFailure = (status) => ['failed', 'timeout', 'abandoned'].includes(canonical(status));

/** How a status is coloured. @param {string} status */
export function tone(status) {
  switch (canonical(status)) {
    case 'requested': case 'scheduling': case 'scheduled': return 'waiting';
    case 'running': return 'running';
    case 'completed': return 'good';
    case 'failed': case 'timeout': case 'abandoned': return 'bad';
    case 'canceling': case 'cancelled': return 'ended';
  }
  return 'unknown';
}

/** Newest first. Ids are decimal texts of up to 64 bits: compared by length, then digit by digit. @param {string} a @param {string} b */
export const byId = (a, b) => b.length - a.length || (a < b ? 1 : a > b ? -1 : 0);

/** @param {number} at milliseconds since 1970 */
export const clock = (at) => new Date(at).toTimeString().slice(0, 8);

const pad = (/** @type {number} */ n, width = 2) => String(n).padStart(width, '0');

/** Exact, in local time. @param {number} at */
export function moment(at) {
  if (!at) {
    return '–';
  }
  const d = new Date(at);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(at)}.${pad(d.getMilliseconds(), 3)}`;
}

const units = /** @type {[string, number][]} */ ([['d', 86_400], ['h', 3600], ['min', 60]]);

/** @param {number} milliseconds */
export function age(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  for (const [unit, size] of units) {
    if (seconds >= size) {
      return `${Math.floor(seconds / size)} ${unit}`;
    }
  }
  return seconds >= 1 ? `${seconds} s` : 'now'; // the two clocks may differ a little
}

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 0) {
    return '0 ms';
  }
  if (milliseconds < 1000) {
    return `${Math.round(milliseconds)} ms`;
  }
  const s = milliseconds / 1000;
  if (s < 10) {
    return `${(Math.floor(s * 10) / 10).toFixed(1)} s`;
  }
  if (s < 60) {
    return `${Math.floor(s)} s`;
  }
  if (s < 3600) {
    return `${Math.floor(s / 60)}:${pad(Math.floor(s % 60))} min`;
  }
  return s < 86_400 ? `${Math.floor(s / 3600)}:${pad(Math.floor(s % 3600 / 60))} h` : `${Math.floor(s / 86_400)} d ${Math.floor(s % 86_400 / 3600)} h`;
}

/** @param {number} n @param {string} one @param {string} [many] */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

/** @param {any} value a browser that keeps the digits of large integers has them as text, which then are quoted here */
export const pretty = (value) => JSON.stringify(value, null, 2);

/** A shell's word. @param {string} text */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
