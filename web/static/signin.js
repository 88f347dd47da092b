// Signing in: the token goes to the server once, which gives it back as a cookie that scripts cannot read.

import { AttuneError, read } from './attune.js';
import { h, put, show } from './dom.js';

export class SignIn {
  #wanted = false;

  /** @param {URL} root of the server @param {() => void} done */
  constructor(root, done) {
    this.root = root;
    this.done = done;
    this.token = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, spellcheck: false, 'aria-describedby': 'token-help' });
    this.failure = h('p', { className: 'failure', role: 'alert', hidden: true });
    this.send = h('button', { type: 'submit', className: 'primary' }, 'Sign in');
    this.form = h('form', null,
      h('h2', { id: 'sign-in-title' }, 'Sign in'),
      h('p', { id: 'token-help' }, 'This server wants to know who you are. Paste a token; what you see goes on from where it stopped.'),
      h('input', { type: 'text', hidden: true, autocomplete: 'username', value: location.host }), // for password managers
      h('label', { for: 'token' }, 'Token'), this.token, this.failure, h('div', { className: 'buttons' }, this.send));
    this.dialog = h('dialog', { className: 'sheet', id: 'sign-in', 'aria-labelledby': 'sign-in-title' }, this.form);
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#submit();
    });
    document.body.append(this.dialog);
  }

  /** Asks, or does not any more. @param {boolean} wanted */
  ask(wanted) {
    if (wanted !== this.#wanted) {
      this.#wanted = wanted;
      if (wanted) {
        this.dialog.showModal();
      } else {
        this.dialog.close();
      }
    }
    if (wanted && !this.dialog.open && !document.querySelector('dialog[open]')) {
      this.dialog.showModal(); // there is nothing else to do here
    }
  }

  async #submit() {
    this.send.disabled = true;
    show(this.failure, false);
    try {
      await read(new URL('session', this.root), { method: 'POST', headers: { Authorization: `Bearer ${this.token.value.trim()}` } });
      this.token.value = '';
      this.done();
    } catch (error) {
      put(this.failure, error instanceof AttuneError ? error.message : 'The server does not answer; try again.');
      show(this.failure, true);
    } finally {
      this.send.disabled = false;
    }
  }
}
