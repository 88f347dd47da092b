// Elements, made and changed without markup from text.

/** @param {string} id @returns {any} the element: each caller knows which */
export const element = (id) => document.getElementById(id);

/**
 * Makes an element. Properties of the DOM are set as such; names with a dash, `role` and `for` as attributes.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any> | null} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.includes('-') || name === 'role' || name === 'for') {
      made.setAttribute(name, value);
    } else {
      /** @type {any} */ (made)[name] = value;
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Sets a text if it differs: an unchanged one is not laid out again, nor read out. @param {Node | null} node @param {string} text */
export function put(node, text) {
  if (node && node.textContent !== text) {
    node.textContent = text;
  }
}

/** @param {Element} node @param {string} name @param {string} value */
export function attribute(node, name, value) {
  if (node.getAttribute(name) !== value) {
    node.setAttribute(name, value);
  }
}

/** Shows or hides, where that changes something. @param {HTMLElement} node @param {boolean} shown */
export function show(node, shown) {
  if (node.hidden === shown) {
    node.hidden = !shown;
  }
}

/** A button that copies. @param {string} label @param {() => string} text */
export function copyButton(label, text) {
  const button = h('button', { type: 'button', className: 'quiet' }, label);
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text()).then(() => put(button, 'Copied'), () => put(button, 'Select and copy by hand'));
    setTimeout(() => put(button, label), 1500);
  });
  return button;
}
