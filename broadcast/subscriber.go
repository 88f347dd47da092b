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
	// ErrOverCapacity: more filters than Options.MaxFilters in the whole hub.
	ErrOverCapacity = errors.New("over capacity: too many filters in use")
)

const (
	// replayChunk bounds how much is replayed under one hold of the hub's lock.
	replayChunk = 256
	// takeBytes bounds, but for one message, how much Take returns at once: no queue
	// counts it any more, and who is writing it hears of no end.
	takeBytes = 1 << 20
	// readAhead bounds how many notifications are read for one that asked for the latest
	// before it is delivered to: meanwhile it hears of nothing else.
	readAhead = 1 << 16
)

// Subscriber is one connection's place in the hub. Its methods may be called from
// several goroutines, Next and Take from one at a time.
//
// A subscriber that resumes first reads the backlog and the window at its own pace
// and becomes live in the moment in which it has read all of it, under the hub's
// lock: replay meets live delivery with neither hole nor duplicate, and costs no
// queue.
type Subscriber struct {
	hub    *Hub
	ready  func(now bool)                // says that there may be something for Take
	wake   <-chan struct{}               // what Ready returns; nil with OnReady
	latest bool                          // see Latest
	allow  func(*wire.Notification) bool // see Allowed; nil: all of them

	// Guarded by hub.mu.
	filters map[wire.Filter]*place
	started bool        // a filter was added once
	live    atomic.Bool // gets what is published; written under hub.mu, read anywhere
	offset  uint64      // while not live: replayed up to here
	breaks  uint64      // while not live: the hub's, when it had read up to there
	ahead   uint64      // what it has from another instance, up to here
	round   uint64

	mu    sync.Mutex
	queue []*wire.Frame
	bytes int // of the queue
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
func (s *Subscriber) Subscribe(ctx context.Context, filters []wire.Filter, resume *string, ack func(Start) []wire.ServerMessage) error {
	h := s.hub
	head := s.headFor(ctx, resume)
	h.mu.Lock()
	defer h.unlock()
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
	if h.maxFilters > 0 && h.places+len(added) > h.maxFilters {
		return ErrOverCapacity
	}

	from, reason := max(h.offset, s.ahead), wire.GapReason("")
	if resume != nil {
		if from, reason = h.resolve(*resume, head); reason != "" {
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
	h.pushOrEnd(s, frames...)
	if err := s.closed(); err != nil {
		return err
	}
	if !s.started {
		s.started, s.offset, s.breaks = true, from, h.breaks
		if from > h.offset {
			s.ahead = from
		}
		s.live.Store(from >= h.offset)
	}
	for _, f := range filters {
		if s.filters[f] != nil {
			continue
		}
		h.add(s, f, from)
	}
	s.tell(true)
	return nil
}

// headFor asks the log how far it goes, where a cursor is ahead of this instance.
func (s *Subscriber) headFor(ctx context.Context, resume *string) uint64 {
	h := s.hub
	if resume == nil || h.backlog == nil {
		return 0
	}
	if c, ok := wire.ParseCursor(*resume); !ok || c.Offset <= h.Cursor().Offset {
		return 0
	}
	head, err := h.backlog.Head(ctx)
	if err != nil {
		return 0 // nothing is proved: the client will be told
	}
	return head
}

// Unsubscribe removes a filter, if it is there, and puts ack behind everything that
// the filter brought.
func (s *Subscriber) Unsubscribe(f wire.Filter, ack wire.ServerMessage) {
	h := s.hub
	h.mu.Lock()
	defer h.unlock()
	if s.filters[f] != nil {
		h.drop(s, f)
	}
	h.pushOrEnd(s, wire.NewFrame(ack))
}

// Send queues a message of the connection's own: a pong, an error.
func (s *Subscriber) Send(m wire.ServerMessage) {
	frame := wire.NewFrame(m)
	h := s.hub
	h.mu.Lock()
	defer h.unlock()
	h.pushOrEnd(s, frame)
}

// Ready receives a value whenever there may be something to Take. It is nil for a
// subscriber that was connected with OnReady, which cannot call Next either.
func (s *Subscriber) Ready() <-chan struct{} { return s.wake }

// Take returns what there is to deliver now, appended to dst; when that is not all,
// Ready receives again. It returns ErrSlowConsumer or ErrClosed when the subscriber
// has ended, and the backlog's error when that cannot be read: the client may come
// back with its cursor.
func (s *Subscriber) Take(ctx context.Context, dst []*wire.Frame) ([]*wire.Frame, error) {
	if !s.live.Load() {
		return s.catchUp(ctx, dst)
	}
	dst, more, err := s.take(dst, takeBytes)
	if more {
		s.tellMore()
	}
	return dst, err
}

// tellMore says that not all was taken.
func (s *Subscriber) tellMore() {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	s.tell(true)
}

// TakeQueued returns what is queued, appended to dst, but no more than one message
// beyond that many bytes; more says that something is left. ok is false where there
// is more to do than that, so that only Take can: the subscriber has ended or is not
// live. It never waits.
func (s *Subscriber) TakeQueued(dst []*wire.Frame, most int) (frames []*wire.Frame, more, ok bool) {
	if !s.live.Load() {
		return dst, false, false
	}
	frames, more, err := s.take(dst, most)
	return frames, more, err == nil
}

// Next waits until there is something to Take, and takes it. It returns the
// context's cause when ctx is done.
func (s *Subscriber) Next(ctx context.Context, dst []*wire.Frame) ([]*wire.Frame, error) {
	empty := len(dst)
	for {
		var err error
		if dst, err = s.Take(ctx, dst); err != nil || len(dst) > empty {
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
func (s *Subscriber) Close() { s.End(ErrClosed) }

// End does as Close, with a reason that Take and Next return from then on. What is still
// queued is not delivered. It may be called from anywhere, and more than once: the first
// reason counts.
func (s *Subscriber) End(reason error) {
	s.hub.mu.Lock()
	defer s.hub.unlock()
	s.hub.remove(s)
	s.end(reason)
}

// take moves what is queued to dst, no more than one message beyond that many bytes, and
// reports whether something is left.
func (s *Subscriber) take(dst []*wire.Frame, most int) (frames []*wire.Frame, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return dst, false, s.err
	}
	n, size := len(s.queue), s.bytes
	if size > most {
		for n, size = 0, 0; size < most; n++ {
			size += len(s.queue[n].JSON())
		}
	}
	dst = append(dst, s.queue[:n]...)
	left := 0
	if n < len(s.queue) {
		left = copy(s.queue, s.queue[n:])
	}
	clear(s.queue[left:])
	s.queue, s.bytes = s.queue[:left], s.bytes-size
	return dst, left > 0, nil
}

// push queues frames if there is room for one, else it returns false. The caller holds
// the hub's lock, which makes the order of all queues one.
func (s *Subscriber) push(now bool, frames ...*wire.Frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return true // it has ended already
	}
	if s.full() && !s.makeRoom() {
		return false
	}
	for _, frame := range frames { // nearly always one
		s.queue = append(s.queue, frame)
		s.bytes += len(frame.JSON())
	}
	filling := s.halfFull()
	s.hub.filling = s.hub.filling || filling
	s.tell(now || filling)
	return true
}

// full is called with s.mu held.
func (s *Subscriber) full() bool { return s.hub.queue.reached(len(s.queue), s.bytes) }

// halfFull is called with s.mu held.
func (s *Subscriber) halfFull() bool { return s.hub.queue.reached(2*len(s.queue), 2*s.bytes) }

// makeRoom is called with s.mu held.
func (s *Subscriber) makeRoom() (ok bool) {
	if s.latest {
		s.queue, s.bytes, ok = s.hub.queue.makeRoom(s.queue, s.bytes)
	}
	return ok
}

// tell is called with the hub's lock held.
func (s *Subscriber) tell(now bool) {
	s.hub.told = true
	s.ready(now)
}

// end is called with the hub's lock held. The first reason counts.
func (s *Subscriber) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err, s.queue, s.bytes = err, nil, 0
		s.tell(true)
	}
}

func (s *Subscriber) closed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Subscriber) queued() (messages, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue), s.bytes
}
