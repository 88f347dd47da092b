// The dashboard: one store, the views that show it, and the address that says which.

import { attribute, element, put, show } from './dom.js';
import { ExecutionView } from './execution.js';
import { ExecutionsView } from './executions.js';
import { clock } from './format.js';
import { shortcuts, showHelp } from './help.js';
import { SignIn } from './signin.js';
import { Store } from './store.js';
import { SystemView } from './system.js';
import { TablesView } from './tables.js';

/**
 * @typedef {object} View
 * @property {string} title
 * @property {HTMLElement} node
 * @property {(query: URLSearchParams) => void} open shows what the address says
 * @property {(change: import('./store.js').Change, now: boolean) => void} update takes over what came; with now all of
 *   it, as the badge changes next
 * @property {() => void} tick once a second
 * @property {(event: KeyboardEvent) => boolean} key whether the key was for it
 * @property {() => void} [restore] it is shown again
 * @property {() => void} [close] it is not shown any more
 */

// The page lies at the server's root; this script may lie deeper.
const root = new URL('.', document.baseURI);
const store = new Store(root, changed);
const signIn = new SignIn(root, () => store.retry());
const executions = new ExecutionsView(store, navigate);
const execution = new ExecutionView(store);
const tables = new TablesView(store);
const system = new SystemView(store);
/** @type {View | undefined} */
let activity;
/** @type {View} */
let view = executions;

// --- where we are --------------------------------------------------------------------------------------------------

/** @param {URLSearchParams} query @returns {Promise<[View, string]>} the view, and what it belongs to */
async function choose(query) {
  switch (true) {
    case query.has('execution'): return [execution, 'executions'];
    case query.has('table') || query.get('view') === 'tables': return [tables, 'tables'];
    case query.get('view') === 'system': return [system, 'system'];
    case query.get('view') === 'activity': // brings the library that draws plots
      activity ??= new (await import('./activity.js')).ActivityView(store);
      return [activity, 'activity'];
  }
  return [executions, 'executions'];
}

/** @param {URLSearchParams} query @param {boolean} [replace] */
function navigate(query, replace = false) {
  history[replace ? 'replaceState' : 'pushState'](null, '', query.size > 0 ? `?${query}` : root.pathname);
  void route();
}

async function route() {
  const { search } = location;
  const query = new URLSearchParams(search);
  const [next, name] = await choose(query);
  if (search !== location.search) {
    return; // somebody went on meanwhile
  }
  const moved = next !== view || !view.node.isConnected;
  if (moved) {
    view.close?.();
    view = next;
    element('main').replaceChildren(view.node);
    for (const link of document.querySelectorAll('[data-view]')) {
      link.toggleAttribute('aria-current', link.getAttribute('data-view') === name);
    }
  }
  if (view === executions) {
    execution.backTo(search || './');
  }
  view.open(query);
  document.title = `${view.title} · attune`;
  if (moved) {
    view.restore?.();
  }
}

addEventListener('popstate', route);
document.addEventListener('click', (event) => {
  const link = /** @type {Element} */ (event.target).closest('a');
  if (link?.getAttribute('href')?.match(/^(\?|\.\/$)/) && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    navigate(new URLSearchParams(link.search));
  }
});

// --- what came -----------------------------------------------------------------------------------------------------

let drawing = false;

/** A frame for all that came until then; a hidden page has no frames and gets its share once in a while. */
function changed() {
  if (!drawing) {
    drawing = true;
    if (document.hidden) {
      setTimeout(draw, 500);
    } else {
      requestAnimationFrame(draw);
    }
  }
}

function draw() {
  drawing = false;
  if (store.state.executions === 'none' && view === executions && location.search === '') {
    navigate(new URLSearchParams('view=tables'), true);
  }
  view.update(store.drawn(), element('badge').dataset.state !== store.state.phase);
  badge();
  store.ack();
}

/** Says whether what is shown is true at this moment. Its text changes with the state only, so that it does not chatter. */
function badge() {
  const { phase, since, error, signIn: out } = store.state;
  const node = element('badge');
  attribute(node, 'data-state', phase);
  put(node, phase === 'stale' ? `stale since ${clock(since)}` : phase);
  put(element('notice'), error);
  show(element('notice'), error !== '' && !out && phase !== 'live');
  signIn.ask(out);
}

setInterval(() => view.tick(), 1000);

// --- keys ----------------------------------------------------------------------------------------------------------

let used = ''; // the key that is down, if it did something

document.addEventListener('keydown', (event) => {
  used = '';
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.matches('input, select, textarea') && event.key !== 'Escape';
  if (event.defaultPrevented || typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]') ||
      event.key.length === 1 && !shortcuts()) {
    return;
  }
  if (event.key === '?') {
    showHelp();
  } else if (event.key === '/' && view !== executions) {
    navigate(new URLSearchParams());
    setTimeout(() => executions.search.focus());
  } else if (!view.key(event)) {
    return;
  }
  used = event.key;
  event.preventDefault();
});
// Moving the focus into the search must not write the key there; what was prevented above is not enough in every case.
document.addEventListener('keypress', (event) => event.key === used && event.preventDefault());
element('help').addEventListener('click', showHelp);

void route();
