// The keys, and what the badge means.

import { h } from './dom.js';

const keys = [
  ['/', 'search'], ['j  k', 'next row, previous row; the arrow keys do the same'], ['Enter', 'open the row'],
  ['l  h', 'show the children of a row, fold them; so do the arrow keys'], ['p', 'pause, resume'], ['.', 'show what is new, at the top'],
  ['Esc', 'leave the search, the table, an execution'], ['?', 'this help'],
];
const states = [
  ['live', 'What you see is true now.'],
  ['polling', 'Notifications do not arrive, so the server is asked every few seconds: what you see was true at the last look.'],
  ['stale', 'The server cannot be reached. What you see was true until then; it is put right by itself.'],
];
const setting = 'attune shortcuts';

/** Whether keys without Ctrl or Alt do something: those who speak to their computer may not want it. */
export const shortcuts = () => localStorage.getItem(setting) !== 'off';

/** @type {HTMLDialogElement | undefined} */
let dialog;

export function showHelp() {
  dialog ??= make();
  dialog.showModal();
}

function make() {
  const close = h('button', { type: 'button' }, 'Close');
  const use = h('input', { type: 'checkbox', id: 'shortcuts', checked: shortcuts() });
  use.addEventListener('change', () => localStorage.setItem(setting, use.checked ? 'on' : 'off'));
  const made = h('dialog', { className: 'sheet', 'aria-labelledby': 'help-title' },
    h('h2', { id: 'help-title' }, 'Keys'),
    h('dl', { className: 'keys' }, ...keys.map(([key, does]) => h('div', null, h('dt', null, ...key.split('  ').map((one) => h('kbd', null, one))), h('dd', null, does)))),
    h('p', null, h('label', null, use, ' Single keys do this')),
    h('h2', null, 'The badge'),
    h('dl', { className: 'keys' }, ...states.map(([state, means]) => h('div', null, h('dt', null, state), h('dd', null, means)))),
    h('p', { className: 'faint' }, 'Rows stay where they are while the pointer is over them, while one has the focus, and while the table is scrolled down.'),
    h('div', { className: 'buttons' }, close));
  close.addEventListener('click', () => made.close());
  document.body.append(made);
  return made;
}
