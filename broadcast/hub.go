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
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"sync"

	"attune/wire"
)

// MaxFilters is how many filters a subscriber may have.
const MaxFilters = 100

// atOnce is how many notifications of a log may come at once without being more than
// somebody can be expected to keep up with.
const atOnce = 64

// Backlog reads what the window no longer holds. A source without a log has none.
type Backlog interface {
	// Read returns notifications with offsets in (after, upTo], oldest first, and the
	// offset up to which these are all: it bounds how many it returns at once. The
	// error is a *wire.GapError when some of them may be gone or the next cannot be told.
	Read(ctx context.Context, after, upTo uint64) (ns []wire.Notification, through uint64, err error)
	// Head returns the latest offset that was given to a notification.
	Head(ctx context.Context) (uint64, error)
}

// Options sizes a Hub.
type Options struct {
	// QueueSize is how many messages may wait for one subscriber.
	QueueSize int
	// QueueBytes is how large they may be together; 0: as large as they are. One
	// message is accepted whatever its size.
	QueueBytes int
	// MaxFilters is how many filters all subscribers may have together; 0: no bound.
	MaxFilters int
	// WindowSize is how many notifications are retained for replay.
	WindowSize int
	// WindowBytes is how large they may be together, as JSON; 0: as large as they are.
	WindowBytes int
	// Backlog may be nil.
	Backlog Backlog
}

// Hub is where notifications are published and subscribers connect.
type Hub struct {
	queue      limit // of each subscriber
	maxFilters int
	backlog    Backlog

	mu     sync.Mutex
	mode   wire.Mode
	epoch  string
	offset uint64 // of the latest notification or gap
	window window
	// A break is where something may have been lost: nothing before the last one can
	// be resumed, for that reason.
	breaks      uint64
	breakOffset uint64
	breakReason wire.GapReason

	subscribers map[*Subscriber]struct{}
	places      int // filters of all subscribers
	index       map[wire.Filter][]*Subscriber
	round       uint64                   // of Publish, to deliver once to whoever matches twice
	keys        []wire.Filter            // scratch of Publish
	watches     map[wire.Filter][]*Watch // those that are not stale
	gaps        map[wire.GapReason]uint64
	told        bool     // somebody's ready was called
	filling     bool     // somebody's queue is half full
	settled     []func() // see OnSettled
}

// New returns a Hub with an epoch of its own, degraded until SetMode says that the
// source is live.
func New(opts Options) *Hub {
	return &Hub{
		queue:       limit{messages: opts.QueueSize, bytes: opts.QueueBytes},
		maxFilters:  opts.MaxFilters,
		backlog:     opts.Backlog,
		epoch:       strings.ToLower(rand.Text()[:10]),
		mode:        wire.ModeDegraded,
		window:      newWindow(opts.WindowSize, opts.WindowBytes),
		subscribers: make(map[*Subscriber]struct{}),
		index:       make(map[wire.Filter][]*Subscriber),
		watches:     make(map[wire.Filter][]*Watch),
		gaps:        make(map[wire.GapReason]uint64),
	}
}

// Publish gives each of ns the next cursor, there in the slice, retains it and hands it to
// the queues of the matching subscribers, which have it once all of them are queued, or
// one queue is half full.
func (h *Hub) Publish(ns ...wire.Notification) {
	h.mu.Lock()
	defer h.unlock()
	for i := range ns {
		n := &ns[i]
		h.offset++
		n.Cursor = h.cursor(h.offset)
		h.endSlow(h.push(n, h.retain(n), h.offset))
		h.relieve()
	}
}

// PublishLogged does as Publish for notifications that have their offsets from a
// log. An offset that is not beyond the latest was published before, and is not
// again. Where many come at once, after an outage or in a rush, whose queue is full is
// no slow consumer: it reads the rest at its own pace, as it reads a replay. It must not
// be called together with Restart.
func (h *Hub) PublishLogged(ns ...wire.Notification) {
	h.mu.Lock()
	defer h.unlock()
	many := h.many(ns)
	for i := range ns {
		n := &ns[i]
		if n.Cursor.Offset <= h.offset {
			continue
		}
		h.offset = n.Cursor.Offset
		n.Cursor.Epoch = h.epoch
		full := h.push(n, h.retain(n), h.offset)
		if many {
			h.setBehind(full, h.offset-1)
		} else {
			h.endSlow(full)
		}
		h.relieve()
	}
}

// many reports whether ns may be too many at once even for somebody who reads, whose
// queue may be half full at any time.
func (h *Hub) many(ns []wire.Notification) bool {
	size := 0
	for i := range ns {
		size += len(ns[i].Payload)
	}
	return len(ns) > atOnce || (len(ns) > 1 && h.queue.exceeded(2*len(ns), 2*size))
}

// PublishUnlogged hands ns, which no log holds, to the matching subscribers, with the
// latest cursor, or the position up to which a subscriber that is not live has read. They
// cannot be replayed.
func (h *Hub) PublishUnlogged(ns ...wire.Notification) {
	h.mu.Lock()
	defer h.unlock()
	for i := range ns {
		n := &ns[i]
		n.Cursor = h.cursor(h.offset)
		// It comes after the latest, so it is news to whoever has read just up to there.
		h.endSlow(h.push(n, wire.NewNotificationFrame(*n), h.offset+1))
		h.relieve()
	}
}

// Gap announces that notifications may have been lost here: to every subscriber
// now, and to everyone who comes back with a cursor from before.
func (h *Hub) Gap(reason wire.GapReason) {
	h.mu.Lock()
	defer h.unlock()
	// The gap takes an offset of its own, so that the cursor of the last notification
	// before it is not mistaken for the position after it.
	h.breakOff(h.epoch, h.offset+1, reason)
}

// Restart does as Gap where another sequence begins: the cursors of this one mean
// nothing in it. Before anybody has subscribed it only says where the log stands.
func (h *Hub) Restart(epoch string, offset uint64, reason wire.GapReason) {
	h.mu.Lock()
	defer h.unlock()
	h.breakOff(epoch, offset, reason)
}

func (h *Hub) breakOff(epoch string, offset uint64, reason wire.GapReason) {
	h.epoch, h.offset = epoch, offset
	h.breaks++
	h.breakOffset, h.breakReason = offset, reason
	h.window.reset(offset)
	h.expireAll()
	frame := wire.NewFrame(wire.Gap{Reason: reason, Cursor: h.cursor(offset)})
	for s := range h.subscribers {
		s.ahead = 0
		for _, p := range s.filters {
			p.from = offset // the sequence may have restarted lower
		}
		if s.live.Load() && len(s.filters) > 0 {
			h.gaps[reason]++
			h.pushOrEnd(s, frame)
		}
	}
}

// SetMode tells every subscriber that the source's health is now mode. Telling the
// same twice says nothing.
func (h *Hub) SetMode(mode wire.Mode) {
	h.mu.Lock()
	defer h.unlock()
	if h.mode == mode {
		return
	}
	h.mode = mode
	h.expireAll()
	frame := wire.NewFrame(wire.SourceStatus{Mode: mode})
	for s := range h.subscribers {
		h.pushOrEnd(s, frame)
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

// OnSettled has settled called after whatever had a subscriber's ready called, by the
// same goroutine, with no lock held.
func (h *Hub) OnSettled(settled func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, settled)
}

// relieve lets those whose queues fill up have what is in them, before there is more.
func (h *Hub) relieve() {
	if h.filling {
		h.unlock()
		h.mu.Lock()
	}
}

// unlock is for whoever may have had a subscriber's ready called.
func (h *Hub) unlock() {
	told, settled := h.told, h.settled
	h.told, h.filling = false, false
	h.mu.Unlock()
	if !told {
		return
	}
	for _, f := range settled {
		f()
	}
}

// Connect adds a subscriber without filters, which hears of nothing but the
// source's health, and returns the health as it is now. The caller must Close it.
func (h *Hub) Connect(opts ...ConnectOption) (*Subscriber, wire.Mode) {
	s := &Subscriber{hub: h, filters: make(map[wire.Filter]*place)}
	for _, opt := range opts {
		opt(s)
	}
	if s.ready == nil {
		wake := make(chan struct{}, 1) // holds a token while there may be something for Take
		s.wake, s.ready = wake, func(bool) {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[s] = struct{}{}
	return s, h.mode
}

// ConnectOption changes how a subscriber is served.
type ConnectOption func(*Subscriber)

// Latest has a subscriber that falls behind lose detail rather than its connection:
// when its queue is full, only the last notification of each entity stays in it,
// with the number of those that it stands for, and every one with a terminal status.
// Where that frees less than a quarter of the queue, it is a slow consumer all the same.
// It catches up in the same way, with more than a chunk.
func Latest() ConnectOption { return func(s *Subscriber) { s.latest = true } }

// OnReady has ready called whenever there may be something to Take, in place of
// Ready's token: who has no goroutine waiting can start one. With now it should not be
// put off: it is more than a notification, or the queue is half full. ready is called
// with the hub's locks held, so it must be quick and must not call the hub or the
// subscriber; see OnSettled for what may take longer.
func OnReady(ready func(now bool)) ConnectOption { return func(s *Subscriber) { s.ready = ready } }

// Allowed has a subscriber get those notifications only, live or replayed, for which
// allow returns true. It is called under the hub's lock: it must be quick and must not
// call the hub. It may answer differently as time goes on.
func Allowed(allow func(*wire.Notification) bool) ConnectOption {
	return func(s *Subscriber) { s.allow = allow }
}

// Stats is a snapshot of a Hub.
type Stats struct {
	Mode            wire.Mode                 `json:"mode"`
	Cursor          wire.Cursor               `json:"cursor"`
	Subscribers     int                       `json:"subscribers"`
	Filters         int                       `json:"filters"` // different ones in use
	Retained        int                       `json:"retained"`
	Queued          int                       `json:"queued"`            // in all queues
	QueuedMost      int                       `json:"queued_most"`       // in the fullest
	QueuedBytes     int                       `json:"queued_bytes"`      // in all queues; frames are shared, so more than they take
	QueuedBytesMost int                       `json:"queued_bytes_most"` // in the one that is largest so
	Gaps            map[wire.GapReason]uint64 `json:"gaps"`              // announced to subscribers
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
		n, bytes := s.queued()
		stats.Queued += n
		stats.QueuedBytes += bytes
		stats.QueuedMost = max(stats.QueuedMost, n)
		stats.QueuedBytesMost = max(stats.QueuedBytesMost, bytes)
	}
	return stats
}

func (h *Hub) cursor(offset uint64) wire.Cursor { return wire.Cursor{Epoch: h.epoch, Offset: offset} }

// retain encodes n and keeps it in the window.
func (h *Hub) retain(n *wire.Notification) *wire.Frame {
	frame := wire.NewNotificationFrame(*n)
	h.window.add(n.Cursor.Offset, frame)
	return frame
}

// push hands n's frame to the matching subscribers that have not read up to its place in
// the log and will not read it by themselves. It returns those whose queues are full.
func (h *Hub) push(n *wire.Notification, frame *wire.Frame, place uint64) (full []*Subscriber) {
	h.round++
	h.keys = n.Filters(h.keys[:0])
	for _, key := range h.keys {
		h.expire(key)
	}
	for _, key := range h.keys {
		for _, s := range h.index[key] {
			if s.round == h.round || place <= s.ahead {
				continue
			}
			s.round = h.round
			own := frame
			if !s.live.Load() {
				if own = s.meanwhile(n, place); own == nil {
					continue
				}
			}
			if s.allow != nil && !s.allow(n) {
				continue
			}
			if !s.push(false, own) {
				full = append(full, s)
			}
		}
	}
	return full
}

// resolve returns the offset that text names, or why nothing can be proved from
// there. head is the log's, for cursors that another instance gave before this one
// has heard of them.
func (h *Hub) resolve(text string, head uint64) (uint64, wire.GapReason) {
	c, ok := wire.ParseCursor(text)
	switch {
	case !ok:
		return 0, wire.GapCursorInvalid
	case c.Epoch != h.epoch || c.Offset > max(h.offset, head):
		return 0, wire.GapCursorUnknown
	case h.backlog != nil:
		return c.Offset, "" // reading it tells
	case c.Offset < h.breakOffset:
		return 0, h.breakReason
	case c.Offset < h.window.since:
		return 0, wire.GapCursorExpired
	}
	return c.Offset, ""
}

func (h *Hub) pushOrEnd(s *Subscriber, frames ...*wire.Frame) {
	if !s.push(true, frames...) {
		h.endSlow([]*Subscriber{s})
	}
}

// endSlow ends those whose queues are full.
func (h *Hub) endSlow(full []*Subscriber) {
	for _, s := range full {
		s.end(ErrSlowConsumer)
		h.remove(s)
	}
}

// setBehind has those whose queues are full read what comes after offset by themselves.
func (h *Hub) setBehind(full []*Subscriber, offset uint64) {
	for _, s := range full {
		s.live.Store(false)
		s.offset, s.breaks = max(offset, s.ahead), h.breaks
		s.tell(true)
	}
}

// remove takes s out of the hub; doing it twice is harmless.
func (h *Hub) remove(s *Subscriber) {
	delete(h.subscribers, s)
	for f := range s.filters {
		h.drop(s, f)
	}
}

// add gives s the filter f, which counts for what comes after from.
func (h *Hub) add(s *Subscriber, f wire.Filter, from uint64) {
	s.filters[f] = &place{from: from, at: len(h.index[f])}
	h.index[f] = append(h.index[f], s)
	h.places++
}

// drop takes f from s, and s out of the bucket of f; the last member takes its place.
func (h *Hub) drop(s *Subscriber, f wire.Filter) {
	bucket, at := h.index[f], s.filters[f].at
	last := bucket[len(bucket)-1]
	bucket[at], bucket[len(bucket)-1] = last, nil
	last.filters[f].at = at
	delete(s.filters, f)
	h.places--
	if len(bucket) == 1 {
		delete(h.index, f)
		return
	}
	h.index[f] = bucket[:len(bucket)-1]
}
