package broadcast

import (
	"context"
	"errors"

	"attune/wire"
)

// chunk is what is taken at once of what is still to be read.
type chunk struct {
	frames []*wire.Frame
	start  int // index of the first that was added
	bytes  int // of those that were added
	read   int // notifications that were looked at
}

func (c *chunk) add(frame *wire.Frame) {
	c.frames = append(c.frames, frame)
	c.bytes += len(frame.JSON())
}

// full reports whether c is worth a Take.
func (c *chunk) full() bool { return chunkLimit().reached(len(c.frames)-c.start, c.bytes) }

func (c *chunk) makeRoom() (ok bool) {
	var kept []*wire.Frame
	kept, c.bytes, ok = chunkLimit().makeRoom(c.frames[c.start:], c.bytes)
	left := append(c.frames[:c.start], kept...)
	clear(c.frames[len(left):])
	c.frames = left
	return ok
}

func chunkLimit() limit { return limit{messages: replayChunk, bytes: takeBytes} }

// catchUp appends to dst what comes next for a subscriber that is not live. Who asked for
// the latest is far behind where that is more than a chunk: it reads on for as long as what
// it has can be made less, so that it is not behind for ever on a line that is too slow.
func (s *Subscriber) catchUp(ctx context.Context, dst []*wire.Frame) ([]*wire.Frame, error) {
	c := &chunk{frames: dst, start: len(dst)}
	more, err := s.readOn(ctx, c)
	far := false
	for s.latest && more && err == nil && c.read < readAhead {
		if c.full() {
			if far = true; !c.makeRoom() {
				break
			}
		}
		more, err = s.readOn(ctx, c)
	}
	if far && !more {
		c.makeRoom()
	}
	if more {
		s.tellMore()
	}
	return c.frames, err
}

// readOn moves what is queued to c, which holds no notification that comes after what
// is still to be read, then adds the next of that, and makes the subscriber live when
// there is no more. Both happen under the hub's lock, so that a filter's acknowledgement
// goes before what the filter brings.
func (s *Subscriber) readOn(ctx context.Context, c *chunk) (more bool, err error) {
	after, upTo, behind := s.behindWindow()
	var read []wire.Notification
	var through uint64
	var gone *wire.GapError
	if behind {
		// Not under the lock: the log is in a database.
		read, through, err = s.hub.backlog.Read(ctx, after, upTo)
		if err != nil && !errors.As(err, &gone) {
			return false, err
		}
	}

	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	queued := len(c.frames)
	c.frames, more, err = s.take(c.frames, takeBytes-c.bytes)
	for _, frame := range c.frames[queued:] {
		c.bytes += len(frame.JSON())
	}
	if err != nil || s.live.Load() || !s.started || more {
		return more, err
	}
	switch {
	case len(s.filters) == 0: // unsubscribed meanwhile: there is nothing that it could miss
		s.offset, s.breaks = h.offset, h.breaks
		s.live.Store(true)
		return false, nil
	case s.breaks != h.breaks: // something was lost while it was reading
		c.add(s.skip(h.breakReason))
		return false, nil
	case gone != nil:
		c.add(s.skip(gone.Reason))
		return false, nil
	case behind:
		s.addRead(c, read, through)
		return true, nil
	case s.offset < h.window.since:
		if h.backlog == nil { // it left the window while it was reading
			c.add(s.skip(wire.GapCursorExpired))
			return false, nil
		}
		return true, nil
	}
	if s.addRetained(c) {
		return true, nil
	}
	s.live.Store(true)
	return false, nil
}

// addRead adds what was read from the backlog, all up to through. What is too much at once
// is read again.
func (s *Subscriber) addRead(c *chunk, read []wire.Notification, through uint64) {
	for _, n := range read {
		if c.bytes >= takeBytes {
			return
		}
		c.read++
		s.offset = n.Cursor.Offset
		n.Cursor.Epoch = s.hub.epoch
		if s.wants(&n) {
			c.add(wire.NewNotificationFrame(n))
		}
	}
	s.offset = through
}

// addRetained adds the next chunk from the window, and reports whether there may be more.
func (s *Subscriber) addRetained(c *chunk) (more bool) {
	upTo := c.read + replayChunk
	s.hub.window.after(s.offset, func(e entry) bool {
		c.read++
		s.offset = e.offset
		if n, ok := e.frame.Message.(wire.Notification); ok && s.wants(&n) {
			c.add(e.frame)
		}
		more = c.read == upTo || c.bytes >= takeBytes
		return !more
	})
	return more
}

// behindWindow reports whether the next chunk is in the backlog, and where: after
// the one offset and up to the other.
func (s *Subscriber) behindWindow() (after, upTo uint64, behind bool) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.backlog == nil || !s.started || s.live.Load() || s.breaks != h.breaks || s.offset >= h.window.since {
		return 0, 0, false
	}
	return s.offset, h.window.since, true
}

// skip gives up what cannot be read and returns the gap that says so; the subscriber
// is live from here.
func (s *Subscriber) skip(reason wire.GapReason) *wire.Frame {
	h := s.hub
	h.gaps[reason]++
	s.offset, s.breaks = h.offset, h.breaks
	s.live.Store(true)
	return wire.NewFrame(wire.Gap{Reason: reason, Cursor: h.cursor(h.offset)})
}

// meanwhile returns what s, which is not live, gets at once of a notification at that place:
// nothing where s will read it by itself, or be told by a gap that it has missed it. From a
// later position than its own it would not come back for what it still reads.
func (s *Subscriber) meanwhile(n *wire.Notification, place uint64) *wire.Frame {
	if n.Cursor.Offset == place || s.breaks != s.hub.breaks {
		return nil
	}
	own := *n
	own.Cursor.Offset = s.offset
	return wire.NewNotificationFrame(own)
}

// wants reports whether a filter that was there by then matches n, and n is allowed.
func (s *Subscriber) wants(n *wire.Notification) bool {
	var keys [5]wire.Filter
	for _, key := range n.Filters(keys[:0]) {
		if p := s.filters[key]; p != nil && n.Cursor.Offset > p.from {
			return s.allow == nil || s.allow(n)
		}
	}
	return false
}
