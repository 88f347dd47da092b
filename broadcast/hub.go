// Package broadcast fans one stream of notifications out to many subscribers.
//
// Publish never blocks on a subscriber and costs what the matching subscribers
// cost, not what all cost. Each notification is encoded once. A subscriber whose
// queue is full is closed with ErrSlowConsumer and returns by cursor: waiting for
// it would let one stalled browser delay every other client.
//
// Every subscriber gets each matching notification once and in order, or a gap
// that says it may not have. Lock order: Hub.mu, then Subscriber.mu.
package broadcast

import (
	"crypto/rand"
	"maps"
	"strings"
	"sync"

	"attune/wire"
)

// MaxFilters is how many filters a subscriber may have.
const MaxFilters = 100

// Options sizes a Hub.
type Options struct {
	// QueueSize is how many messages may wait for one subscriber.
	QueueSize int
	// WindowSize is how many notifications are retained for replay.
	WindowSize int
}

// Hub is where notifications are published and subscribers connect.
type Hub struct {
	queueSize int
	epoch     string

	mu     sync.Mutex
	mode   wire.Mode
	offset uint64 // of the latest notification or gap
	window window
	// Nothing before lost can be resumed, for the reason lostReason.
	lost       uint64
	lostReason wire.GapReason

	subscribers map[*Subscriber]struct{}
	index       map[wire.Filter][]*Subscriber // the live ones only
	round       uint64                        // of Publish, to deliver once to whoever matches twice
	keys        []wire.Filter                 // scratch of Publish
	gaps        map[wire.GapReason]uint64
}

// New returns a Hub with an epoch of its own, degraded until SetMode says that the
// source is live.
func New(opts Options) *Hub {
	return &Hub{
		queueSize:   opts.QueueSize,
		epoch:       strings.ToLower(rand.Text()[:10]),
		mode:        wire.ModeDegraded,
		window:      newWindow(opts.WindowSize),
		subscribers: make(map[*Subscriber]struct{}),
		index:       make(map[wire.Filter][]*Subscriber),
		gaps:        make(map[wire.GapReason]uint64),
	}
}

// Publish gives n the next cursor, retains it and hands it to the queues of the
// matching subscribers.
func (h *Hub) Publish(n wire.Notification) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offset++
	n.Cursor = h.cursor(h.offset)
	frame := wire.NewFrame(n)
	h.window.add(h.offset, frame)

	h.round++
	h.keys = n.Filters(h.keys[:0])
	var slow []*Subscriber
	for _, key := range h.keys {
		for _, s := range h.index[key] {
			if s.round == h.round {
				continue
			}
			s.round = h.round
			if !s.push(frame) {
				slow = append(slow, s)
			}
		}
	}
	for _, s := range slow {
		h.remove(s)
	}
}

// Gap announces that notifications may have been lost here: to every subscriber
// now, and to everyone who comes back with a cursor from before.
func (h *Hub) Gap(reason wire.GapReason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// The gap takes an offset of its own, so that the cursor of the last notification
	// before it is not mistaken for the position after it.
	h.offset++
	h.lost, h.lostReason = h.offset, reason
	h.window.reset(h.offset)
	frame := wire.NewFrame(wire.Gap{Reason: reason, Cursor: h.cursor(h.offset)})
	for s := range h.subscribers {
		if s.live.Load() && len(s.filters) > 0 {
			h.gaps[reason]++
			h.pushOrRemove(s, frame)
		}
	}
}

// SetMode tells every subscriber that the source's health is now mode. Telling the
// same twice says nothing.
func (h *Hub) SetMode(mode wire.Mode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mode == mode {
		return
	}
	h.mode = mode
	frame := wire.NewFrame(wire.SourceStatus{Mode: mode})
	for s := range h.subscribers {
		h.pushOrRemove(s, frame)
	}
}

// Mode returns the source's health.
func (h *Hub) Mode() wire.Mode {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mode
}

// Cursor returns the position now: whoever resumes from it gets everything that is
// published from here on.
func (h *Hub) Cursor() wire.Cursor {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cursor(h.offset)
}

// Connect adds a subscriber without filters, which hears of nothing but the
// source's health, and returns the health as it is now. The caller must Close it.
func (h *Hub) Connect() (*Subscriber, wire.Mode) {
	s := &Subscriber{hub: h, wake: make(chan struct{}, 1), filters: make(map[wire.Filter]*place)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[s] = struct{}{}
	return s, h.mode
}

// Stats is a snapshot of a Hub.
type Stats struct {
	Mode        wire.Mode                 `json:"mode"`
	Cursor      wire.Cursor               `json:"cursor"`
	Subscribers int                       `json:"subscribers"`
	Filters     int                       `json:"filters"` // different ones in use
	Retained    int                       `json:"retained"`
	Queued      int                       `json:"queued"`      // in all queues
	QueuedMost  int                       `json:"queued_most"` // in the fullest
	Gaps        map[wire.GapReason]uint64 `json:"gaps"`        // announced to subscribers
}

// Stats returns a snapshot; it costs a look at every subscriber.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	stats := Stats{
		Mode: h.mode, Cursor: h.cursor(h.offset), Subscribers: len(h.subscribers), Filters: len(h.index),
		Retained: h.window.len(), Gaps: maps.Clone(h.gaps),
	}
	for s := range h.subscribers {
		n := s.queued()
		stats.Queued += n
		stats.QueuedMost = max(stats.QueuedMost, n)
	}
	return stats
}

func (h *Hub) cursor(offset uint64) wire.Cursor { return wire.Cursor{Epoch: h.epoch, Offset: offset} }

// resolve returns the offset that text names, or why nothing can be proved from there.
func (h *Hub) resolve(text string) (uint64, wire.GapReason) {
	c, ok := wire.ParseCursor(text)
	switch {
	case !ok:
		return 0, wire.GapCursorInvalid
	case c.Epoch != h.epoch || c.Offset > h.offset:
		return 0, wire.GapCursorUnknown
	}
	return c.Offset, h.missing(c.Offset)
}

// missing returns why not everything after offset is retained; "" if it is.
func (h *Hub) missing(offset uint64) wire.GapReason {
	switch {
	case offset < h.lost:
		return h.lostReason
	case offset < h.window.since:
		return wire.GapCursorExpired
	}
	return ""
}

func (h *Hub) pushOrRemove(s *Subscriber, frames ...*wire.Frame) {
	if !s.push(frames...) {
		h.remove(s)
	}
}

// remove takes s out of the hub; doing it twice is harmless.
func (h *Hub) remove(s *Subscriber) {
	delete(h.subscribers, s)
	for f := range s.filters {
		h.drop(s, f)
	}
}

// add puts a live subscriber into the index.
func (h *Hub) add(s *Subscriber, f wire.Filter) {
	s.filters[f].at = len(h.index[f])
	h.index[f] = append(h.index[f], s)
}

// drop forgets f. The last member of the bucket takes the place of s.
func (h *Hub) drop(s *Subscriber, f wire.Filter) {
	at := s.filters[f].at
	delete(s.filters, f)
	if !s.live.Load() {
		return
	}
	bucket := h.index[f]
	last := bucket[len(bucket)-1]
	bucket[at], bucket[len(bucket)-1] = last, nil
	if last != s {
		last.filters[f].at = at
	}
	if len(bucket) == 1 {
		delete(h.index, f)
		return
	}
	h.index[f] = bucket[:len(bucket)-1]
}
