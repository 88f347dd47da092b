// The feed of all tabs, in a SharedWorker: one stream for the browser, however many tabs are open.

import { Feed } from './feed.js';

const scope = /** @type {any} */ (globalThis); // a SharedWorkerGlobalScope
const feed = new Feed(new URL(scope.name)); // the page names the server's root: this file may lie deeper
scope.onconnect = (/** @type {MessageEvent} */ event) => feed.add(event.ports[0]);
