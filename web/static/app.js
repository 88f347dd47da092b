// The dashboard: one store, the views that show it, and the address that says which.

import { attribute, element, put, show } from './dom.js';
import { clock } from './format.js';
import { ExecutionsView } from './executions.js';
import { Store } from './store.js';

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
 */

// The page lies at the server's root; this script may lie deeper.
const root = new URL('.', document.baseURI);
const store = new Store(root, changed);
const executions = new ExecutionsView(store, (query, replace) => navigate(query, replace));
/** @type {View} */
let view = executions;

// --- where we are --------------------------------------------------------------------------------------------------

/** @param {URLSearchParams} query @returns {View} */
function choose(query) {
  void query;
  return executions;
}

/** @param {URLSearchParams} query @param {boolean} [replace] */
function navigate(query, replace = false) {
  const address = query.size > 0 ? `?${query}` : root.pathname;
  history[replace ? 'replaceState' : 'pushState'](null, '', address);
  route();
}

function route() {
  const query = new URLSearchParams(location.search);
  const next = choose(query);
  const moved = next !== view || !view.node.isConnected;
  view = next;
  if (moved) {
    element('main').replaceChildren(view.node);
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
  view.update(store.drawn(), element('badge').dataset.state !== store.state.phase);
  badge();
  store.ack();
}

/** Says whether what is shown is true at this moment. Its text changes with the state only, so that it does not chatter. */
function badge() {
  const { phase, since, error, signIn } = store.state;
  const node = element('badge');
  attribute(node, 'data-state', phase);
  put(node, phase === 'stale' ? `stale since ${clock(since)}` : phase);
  put(element('notice'), error);
  show(element('notice'), error !== '' && !signIn);
}

setInterval(() => view.tick(), 1000);

// --- keys ----------------------------------------------------------------------------------------------------------

document.addEventListener('keydown', (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.matches('input, select, textarea') && event.key !== 'Escape';
  if (!event.defaultPrevented && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && view.key(event)) {
    event.preventDefault();
  }
});

route();
