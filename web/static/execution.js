// The view of one execution: what it was given, what came of it, how long it stood where, its children, what is notified.

import { AttuneError, read } from './attune.js';
import { attribute, copyButton, h, put, show } from './dom.js';
import { clock, count, duration, isFailure, isTerminal, moment, pretty, quoted, tone } from './format.js';

/**
 * @typedef {import('./store.js').Store} Store
 * @typedef {import('./store.js').Change} Change
 * @typedef {import('./feed/executions.js').Execution} Execution
 *
 * A state that it was in. `told` is false where only the row's times tell of it.
 * @typedef {{status: string, from: number, to: number, told: boolean, last: boolean}} Span
 */

const shownChildren = 200;
const shownNotes = 100;

export class ExecutionView {
  title = 'Execution';
  #id = '';
  /** @type {unknown} */ #drawnDetail;
  #drawnNote = '';

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.back = h('a', { href: './', className: 'back' }, '‹ Executions');
    this.heading = h('h1', { id: 'view-title' });
    this.status = h('span', { className: 'status' }, h('span', { className: 'dot', 'aria-hidden': 'true' }), h('span', { className: 'word' }));
    this.actionName = h('span', { className: 'action' });
    this.cancel = h('button', { type: 'button', id: 'cancel', hidden: true }, 'Cancel…');
    this.sure = h('dialog', { className: 'sheet', 'aria-labelledby': 'sure-title' });
    this.failure = h('p', { className: 'failure', role: 'alert', hidden: true });
    this.facts = h('dl', { className: 'facts' });
    this.timeline = h('div', { className: 'timeline' });
    this.spans = h('ol', { className: 'spans' });
    this.parameters = h('pre', { tabIndex: 0, 'aria-label': 'Parameters' });
    this.result = h('pre', { tabIndex: 0, 'aria-label': 'Result', id: 'result' });
    this.children = h('ul', { className: 'children' });
    this.childrenTitle = h('h2', null, 'Children');
    this.childrenPart = h('section', { className: 'card' }, this.childrenTitle, this.children);
    this.commands = h('div', { className: 'commands' });
    this.notes = h('ol', { className: 'notes' });
    this.quiet = h('p', { className: 'faint' }, 'None yet. They appear here as they arrive.');
    this.body = h('div', { className: 'cards' },
      h('section', { className: 'card wide' }, h('h2', null, 'Timeline'), this.timeline, this.spans, this.facts),
      h('section', { className: 'card' }, h('h2', null, 'Parameters'), this.parameters),
      h('section', { className: 'card' }, h('h2', null, 'Result'), this.result),
      this.childrenPart,
      h('section', { className: 'card' }, h('h2', null, 'Commands'), this.commands),
      h('section', { className: 'card wide' }, h('h2', null, 'Notifications'), this.quiet, this.notes));
    this.missing = h('div', { className: 'empty', hidden: true });
    this.node = h('section', { className: 'view page execution', tabIndex: 0, 'aria-labelledby': 'view-title' },
      h('div', { className: 'bar' }, this.back, this.heading, this.status, this.actionName,
        h('span', { className: 'push' }), this.cancel),
      this.failure, this.missing, this.body, this.sure);
    this.cancel.addEventListener('click', () => this.#ask());
  }

  /** @param {string} address of the executions that were shown before */
  backTo(address) {
    this.back.setAttribute('href', address);
  }

  /** @param {URLSearchParams} query */
  open(query) {
    const id = query.get('execution') ?? '';
    if (id === this.#id) {
      return;
    }
    this.#id = id;
    this.title = `Execution ${id}`;
    this.#drawnDetail = undefined;
    this.#drawnNote = '';
    put(this.heading, id);
    show(this.failure, false);
    this.notes.replaceChildren();
    this.store.want({ execution: id });
    this.#draw();
  }

  /** It is not shown any more. */
  close() {
    this.#id = '';
    this.sure.close();
  }

  restore() {
    document.getElementById('main')?.focus({ preventScroll: true });
  }

  /** @param {Change} change */
  update(change) {
    if (change.any) {
      this.#draw();
    }
  }

  tick() {
    const execution = this.store.executions.get(this.#id);
    if (execution && !isTerminal(execution.status)) {
      this.#drawTimeline(execution);
    }
  }

  /** @param {KeyboardEvent} event */
  key({ key }) {
    if (key === 'Escape' || key === 'Backspace') {
      this.back.click();
      return true;
    }
    return false;
  }

  #draw() {
    const execution = this.store.executions.get(this.#id);
    const { detail, state } = this.store;
    const error = !execution && detail?.error ? detail.error : '';
    show(this.missing, error !== '' || !execution);
    show(this.body, execution !== undefined);
    if (!execution) {
      put(this.missing, error ? `${error}. It may have been deleted; executions are kept as long as the database keeps them.` : 'Reading…');
      show(this.cancel, false);
      put(/** @type {Node} */ (this.status.lastChild), '');
      put(this.actionName, '');
      return;
    }
    const { status, action } = execution;
    put(/** @type {Node} */ (this.status.lastChild), status);
    attribute(this.status, 'class', `status ${tone(status)}`);
    put(this.actionName, action);
    show(this.cancel, state.writable && !isTerminal(status) && status !== 'canceling');
    this.#drawTimeline(execution);
    this.#drawFacts(execution);
    if (detail !== this.#drawnDetail) {
      this.#drawnDetail = detail;
      put(this.parameters, detail ? pretty(detail.parameters) : '…');
      put(this.result, detail ? detail.result === null ? isTerminal(status) ? 'none' : 'not yet' : pretty(detail.result) : '…');
      this.result.classList.toggle('bad', isFailure(status));
      this.#drawCommands(execution, detail?.parameters ?? null);
    }
    this.#drawChildren();
    this.#drawNotes();
  }

  // --- the timeline ------------------------------------------------------------------------------------------------

  /** @param {Execution} execution */
  #drawTimeline(execution) {
    const spans = spansOf(execution, this.store.now());
    const begin = spans[0]?.from ?? 0;
    const whole = Math.max(1, (spans.at(-1)?.to ?? 0) - begin);
    while (this.timeline.children.length > spans.length) {
      this.timeline.lastElementChild?.remove();
      this.spans.lastElementChild?.remove();
    }
    spans.forEach((span, at) => {
      const took = span.to - span.from;
      const bar = /** @type {HTMLElement} */ (this.timeline.children[at] ?? this.timeline.appendChild(h('span', null)));
      attribute(bar, 'class', `span ${tone(span.status)}${span.last ? ' last' : ''}`);
      bar.style.left = `${100 * (span.from - begin) / whole}%`;
      bar.style.width = span.last ? '' : `${100 * took / whole}%`;
      const item = this.spans.children[at] ?? this.spans.appendChild(h('li', null, h('span', { className: 'status' },
        h('span', { className: 'dot', 'aria-hidden': 'true' }), h('span', { className: 'word' })), h('span', { className: 'took' }), h('time', null)));
      const [status, length, time] = [...item.children];
      attribute(status, 'class', `status ${tone(span.status)}`);
      put(status.lastChild, span.told ? span.status : `${span.status}…`);
      attribute(item, 'title', span.told ? '' : 'As the row tells it: nobody followed at that time.');
      put(length, span.last ? '' : duration(took));
      put(time, moment(span.from).slice(11));
    });
  }

  /** @param {Execution} execution */
  #drawFacts(execution) {
    const { created, started, updated, parent } = execution;
    const facts = /** @type {[string, string, string?][]} */ ([['Created', moment(created)], ['Started', moment(started)], ['Updated', moment(updated)]]);
    if (parent) {
      facts.push(['Parent', parent, `?execution=${parent}`]);
    }
    if (this.store.detail?.executor) {
      facts.push(['Asked for by', `identity ${this.store.detail.executor}`]);
    }
    const text = JSON.stringify(facts);
    if (this.facts.dataset.facts !== text) {
      this.facts.dataset.facts = text;
      this.facts.replaceChildren(...facts.map(([name, value, href]) => h('div', null, h('dt', null, name), h('dd', null, href ? h('a', { href }, value) : value))));
    }
  }

  // --- children, commands, notifications ---------------------------------------------------------------------------

  #drawChildren() {
    const ids = this.store.children.get(this.#id) ?? [];
    show(this.childrenPart, ids.length > 0);
    if (ids.length === 0) {
      return;
    }
    const children = ids.flatMap((id) => this.store.executions.get(id) ?? []);
    const failed = children.filter(({ status }) => isFailure(status)).length;
    const active = children.filter(({ status }) => !isTerminal(status)).length;
    put(this.childrenTitle, [count(ids.length, 'child', 'children'), active ? `${active} going on` : '', failed ? `${failed} failed` : ''].filter(Boolean).join(', '));
    // What failed or goes on comes first.
    const rank = (/** @type {Execution} */ { status }) => (isFailure(status) ? 0 : isTerminal(status) ? 2 : 1);
    const shown = children.sort((a, b) => rank(a) - rank(b)).slice(0, shownChildren);
    while (this.children.children.length > shown.length) {
      this.children.lastElementChild?.remove();
    }
    shown.forEach((child, at) => {
      const item = this.children.children[at] ?? this.children.appendChild(h('li', null,
        h('span', { className: 'status' }, h('span', { className: 'dot', 'aria-hidden': 'true' }), h('span', { className: 'word' })), h('a', null), h('span', null)));
      const [status, link, name] = /** @type {HTMLElement[]} */ ([...item.children]);
      attribute(status, 'class', `status ${tone(child.status)}`);
      put(status.lastChild, child.status);
      put(link, child.id);
      attribute(link, 'href', `?execution=${child.id}`);
      put(name, child.action);
    });
  }

  /** @param {Execution} execution @param {any} parameters */
  #drawCommands({ id, action }, parameters) {
    const url = (/** @type {string} */ path) => new URL(path, this.store.root).href;
    const words = Object.entries(parameters ?? {}).map(([name, value]) => `--param ${quoted(`${name}=${typeof value === 'string' ? asParameter(value) : JSON.stringify(value)}`)}`);
    const body = JSON.stringify({ action_ref: action, ...parameters && { parameters } });
    const commands = [
      ['Look, with curl', `curl ${quoted(url(`executions/${id}`))}`],
      ['Wait, with the CLI', `attune execution wait ${id} --url ${quoted(this.store.root.href)}`],
    ];
    if (this.store.state.writable) {
      commands.push(
        ['Run again, with curl', `curl --json ${quoted(body)} ${quoted(url('executions'))}`],
        ['Run again, with the CLI', ['attune action execute', quoted(action), ...words, '--wait', '--url', quoted(this.store.root.href)].join(' ')]);
    }
    this.commands.replaceChildren(...commands.map(([name, command]) => h('div', { className: 'command' },
      h('div', { className: 'label' }, h('span', null, name), copyButton('Copy', () => command)), h('pre', { tabIndex: 0, 'aria-label': name }, command))));
  }

  #drawNotes() {
    const { notes } = this.store;
    show(this.quiet, notes.length === 0);
    const first = notes[0]?.cursor ?? '';
    if (first === this.#drawnNote) {
      return;
    }
    const known = notes.findIndex(({ cursor }) => cursor === this.#drawnNote);
    this.#drawnNote = first;
    const fresh = notes.slice(0, known < 0 ? shownNotes : known);
    this.notes.prepend(...fresh.slice(0, shownNotes).map(noteItem));
    while (this.notes.children.length > shownNotes) {
      this.notes.lastElementChild?.remove();
    }
  }

  // --- cancelling --------------------------------------------------------------------------------------------------

  #ask() {
    const id = this.#id;
    const yes = h('button', { type: 'button', className: 'danger', id: 'really' }, `Cancel ${id}`);
    const no = h('button', { type: 'button' }, 'Let it go on');
    yes.addEventListener('click', () => {
      this.sure.close();
      void this.#cancel(id);
    });
    no.addEventListener('click', () => this.sure.close());
    this.sure.replaceChildren(h('h2', { id: 'sure-title' }, `Cancel execution ${id}?`),
      h('p', null, `${this.actionName.textContent} stops as soon as it can. What it has done is not undone.`), h('div', { className: 'buttons' }, no, yes));
    this.sure.showModal();
  }

  /** @param {string} id */
  async #cancel(id) {
    show(this.failure, false);
    try {
      await read(new URL(`executions/${id}/cancel`, this.store.root), { method: 'POST' }); // the stream tells the rest
    } catch (error) {
      put(this.failure, error instanceof AttuneError ? `Not cancelled: ${error.message}` : 'Not cancelled: the server does not answer');
      show(this.failure, true);
    }
  }
}

/** The states that it was in, in order. @param {Execution} execution @param {number} now @returns {Span[]} */
export function spansOf({ status, created, started, updated, seen }, now) {
  /** @type {{status: string, at: number, told: boolean}[]} */
  const points = [];
  /** @param {string} name @param {number} at @param {boolean} told */
  const point = (name, at, told) => points.push({ status: name, at: Math.max(at, points.at(-1)?.at ?? 0), told });
  const told = seen.filter(([name]) => name !== '');
  const [first, since] = told[0] ?? [status, updated];
  if (first !== 'requested') {
    point('requested', created || since, false);
    if (started && first !== 'scheduling' && first !== 'scheduled' && first !== 'running') {
      point('running', started, false);
    }
  }
  told.forEach(([name, at]) => {
    if (name === 'running' && started) {
      at = started;
    } else if (name === 'requested' && created) {
      at = created;
    }
    point(name, at || updated, true);
  });
  return points.map(({ status: name, at, told: known }, i) => {
    const last = i === points.length - 1 && isTerminal(name);
    return { status: name, from: at, to: points[i + 1]?.at ?? (last ? at : Math.max(now, at)), told: known, last };
  });
}

/** A text that the command line would take for something else is written as JSON. @param {string} value */
function asParameter(value) {
  try {
    JSON.parse(value);
    return JSON.stringify(value);
  } catch {
    return value;
  }
}

/** @param {import('./attune.js').Notification} notification */
export function noteItem({ notification_type, entity_type, entity_id, payload, timestamp, coalesced }) {
  const status = payload?.status;
  const before = payload?.old_status;
  return h('li', null, h('details', null,
    h('summary', null, h('time', { dateTime: timestamp }, clock(Date.parse(timestamp))), h('span', { className: 'type' }, notification_type),
      h('span', { className: 'faint' }, `${entity_type} ${entity_id}`),
      status && h('span', { className: 'faint' }, before ? `${before} → ${status}` : String(status)),
      coalesced !== undefined && h('span', { className: 'faint' }, `stands for ${coalesced} more`)),
    h('pre', null, pretty(payload))));
}
