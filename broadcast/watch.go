package broadcast

import (
	"slices"
	"sync/atomic"

	"attune/wire"
)

// Watch tells whether what was read when it began may still be served: it is stale
// from the moment that something matching its filter is published, a gap is announced
// or the source's health changes. It is stale before any subscriber can know, so that
// nobody who was told of a change is then shown what was before it.
type Watch struct {
	hub    *Hub
	filter wire.Filter
	stale  atomic.Bool
}

// Watch begins a watch, and returns the position where it does: what is read from here
// on is at least as new. The caller must Close it.
func (h *Hub) Watch(f wire.Filter) (*Watch, wire.Cursor) {
	w := &Watch{hub: h, filter: f}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches[f] = append(h.watches[f], w)
	return w, h.cursor(h.offset)
}

// Stale reports whether something may have changed since the watch began.
func (w *Watch) Stale() bool { return w.stale.Load() }

// Close makes the watch stale and has the hub forget it. Doing it twice is harmless.
func (w *Watch) Close() {
	if w.stale.Swap(true) {
		return // the hub has forgotten it, or is about to
	}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	left := slices.DeleteFunc(w.hub.watches[w.filter], func(other *Watch) bool { return other == w })
	if len(left) == 0 {
		delete(w.hub.watches, w.filter)
		return
	}
	w.hub.watches[w.filter] = left
}

// expire makes the watches of a filter stale and forgets them.
func (h *Hub) expire(f wire.Filter) {
	watches, watched := h.watches[f]
	if !watched { // nearly always: every notification asks
		return
	}
	for _, w := range watches {
		w.stale.Store(true)
	}
	delete(h.watches, f)
}

// expireAll does so for all of them.
func (h *Hub) expireAll() {
	for f := range h.watches {
		h.expire(f)
	}
}
