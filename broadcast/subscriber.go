package broadcast

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"attune/wire"
)

// Why a subscriber refuses or ends.
var (
	// ErrSlowConsumer: the queue was full. The client returns with its last cursor.
	ErrSlowConsumer = errors.New("slow consumer: queue full")
	// ErrClosed: the subscriber was closed.
	ErrClosed = errors.New("subscriber closed")
	// ErrNotFirst: a cursor came with a subscription that is not the first.
	ErrNotFirst = errors.New("a cursor is accepted with the first subscription only")
	// ErrTooManyFilters: more than MaxFilters.
	ErrTooManyFilters = errors.New("too many filters")
)

// replayChunk bounds how much is replayed under one hold of the hub's lock.
const replayChunk = 256

// Subscriber is one connection's place in the hub. Its methods may be called from
// several goroutines, Next from one at a time.
//
// A subscriber that resumes first reads the window at its own pace and becomes live
// in the moment in which it has read all of it, under the hub's lock: replay meets
// live delivery with neither hole nor duplicate, and costs no queue.
type Subscriber struct {
	hub  *Hub
	wake chan struct{} // holds a token while there may be something for Next

	// Guarded by hub.mu.
	filters map[wire.Filter]*place
	started bool        // a filter was added once
	live    atomic.Bool // in the index; written under hub.mu, read anywhere
	offset  uint64      // while not live: replayed up to here
	round   uint64

	mu    sync.Mutex
	queue []*wire.Frame
	err   error
}

// place is a filter's entry in a subscriber.
type place struct {
	from uint64 // the filter counts for what comes after this offset
	at   int    // index in the hub's bucket
}

// Start is where a subscription's delivery starts.
type Start struct {
	Cursor wire.Cursor
	Mode   wire.Mode
}

// Subscribe adds filters. With a resume cursor (its text, as the client sent it)
// delivery starts there, otherwise now. The messages that ack returns are put in
// front of everything that the filters bring; where the cursor cannot be honoured,
// a gap follows them and delivery starts now. Both happen under the hub's lock, so
// ack must be quick and must not call the hub.
func (s *Subscriber) Subscribe(filters []wire.Filter, resume *string, ack func(Start) []wire.ServerMessage) error {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := s.closed(); err != nil {
		return err
	}
	if resume != nil && s.started {
		return ErrNotFirst
	}
	added := make(map[wire.Filter]struct{}, len(filters)) // filters may name one twice
	for _, f := range filters {
		if s.filters[f] == nil {
			added[f] = struct{}{}
		}
	}
	if len(s.filters)+len(added) > MaxFilters {
		return ErrTooManyFilters
	}

	from, reason := h.offset, wire.GapReason("")
	if resume != nil {
		if from, reason = h.resolve(*resume); reason != "" {
			from = h.offset
		}
	}
	messages := ack(Start{Cursor: h.cursor(from), Mode: h.mode})
	if reason != "" {
		h.gaps[reason]++
		messages = append(messages, wire.Gap{Reason: reason, Cursor: h.cursor(from)})
	}
	frames := make([]*wire.Frame, len(messages))
	for i, m := range messages {
		frames[i] = wire.NewFrame(m)
	}
	h.pushOrRemove(s, frames...)
	if err := s.closed(); err != nil {
		return err
	}
	if !s.started {
		s.started, s.offset = true, from
		s.live.Store(from == h.offset)
	}
	for _, f := range filters {
		if s.filters[f] != nil {
			continue
		}
		s.filters[f] = &place{from: from}
		if s.live.Load() {
			h.add(s, f)
		}
	}
	s.signal()
	return nil
}

// Unsubscribe removes a filter, if it is there, and puts ack behind everything that
// the filter brought.
func (s *Subscriber) Unsubscribe(f wire.Filter, ack wire.ServerMessage) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.filters[f] != nil {
		h.drop(s, f)
	}
	h.pushOrRemove(s, wire.NewFrame(ack))
}

// Send queues a message of the connection's own: a pong, an error.
func (s *Subscriber) Send(m wire.ServerMessage) {
	frame := wire.NewFrame(m)
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushOrRemove(s, frame)
}

// Ready receives a value whenever there may be something to Take.
func (s *Subscriber) Ready() <-chan struct{} { return s.wake }

// Take returns what there is to deliver now, appended to dst; when that is not all,
// Ready receives again. It returns ErrSlowConsumer or ErrClosed when the subscriber
// has ended.
func (s *Subscriber) Take(dst []*wire.Frame) ([]*wire.Frame, error) {
	if s.live.Load() {
		return s.take(dst)
	}
	return s.catchUp(dst)
}

// Next waits until there is something to Take, and takes it. It returns the
// context's cause when ctx is done.
func (s *Subscriber) Next(ctx context.Context, dst []*wire.Frame) ([]*wire.Frame, error) {
	empty := len(dst)
	for {
		var err error
		if dst, err = s.Take(dst); err != nil || len(dst) > empty {
			return dst, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return dst, context.Cause(ctx)
		}
	}
}

// Close takes the subscriber out of the hub; Next returns ErrClosed from then on.
func (s *Subscriber) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.remove(s)
	s.fail(ErrClosed)
}

// take empties the queue into dst.
func (s *Subscriber) take(dst []*wire.Frame) ([]*wire.Frame, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return dst, s.err
	}
	dst = append(dst, s.queue...)
	clear(s.queue)
	s.queue = s.queue[:0]
	return dst, nil
}

// catchUp empties the queue into dst, which holds no notification before the
// subscriber is live, then appends the next chunk of what it missed, and makes it
// live when there is no more. Both happen under the hub's lock, so that a filter's
// acknowledgement goes before what the filter brings.
func (s *Subscriber) catchUp(dst []*wire.Frame) ([]*wire.Frame, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	dst, err := s.take(dst)
	if err != nil || s.live.Load() || !s.started {
		return dst, err
	}
	if len(s.filters) == 0 { // unsubscribed meanwhile: there is nothing that it could miss
		s.offset = h.offset
	}
	if reason := h.missing(s.offset); reason != "" { // lost or expired while it was reading
		h.gaps[reason]++
		dst = append(dst, wire.NewFrame(wire.Gap{Reason: reason, Cursor: h.cursor(h.offset)}))
		s.offset = h.offset
	}
	read := 0
	h.window.after(s.offset, func(e entry) bool {
		s.offset = e.offset
		if n, ok := e.frame.Message.(wire.Notification); ok && s.wants(&n) {
			dst = append(dst, e.frame)
		}
		read++
		return read < replayChunk
	})
	if read == replayChunk {
		s.signal()
		return dst, nil
	}
	s.offset = h.offset
	s.live.Store(true)
	for f := range s.filters {
		h.add(s, f)
	}
	return dst, nil
}

// wants reports whether a filter that was there by then matches n.
func (s *Subscriber) wants(n *wire.Notification) bool {
	var keys [5]wire.Filter
	for _, key := range n.Filters(keys[:0]) {
		if p := s.filters[key]; p != nil && n.Cursor.Offset > p.from {
			return true
		}
	}
	return false
}

// push queues frames if there is room for one; false means that the queue was full
// and the subscriber has ended. The caller holds the hub's lock, which makes the
// order of all queues one.
func (s *Subscriber) push(frames ...*wire.Frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return true // it has ended already
	}
	if len(s.queue) >= s.hub.queueSize {
		s.end(ErrSlowConsumer)
		return false
	}
	s.queue = append(s.queue, frames...)
	s.signal()
	return true
}

func (s *Subscriber) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.end(err)
	}
}

// end is called with s.mu held.
func (s *Subscriber) end(err error) {
	s.err, s.queue = err, nil
	s.signal()
}

func (s *Subscriber) closed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Subscriber) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// signal leaves a token for Next.
func (s *Subscriber) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
