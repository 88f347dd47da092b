package broadcast

import (
	"context"
	"errors"

	"attune/wire"
)

// catchUp empties the queue into dst, which holds no notification that comes after
// what is still to be read, then appends the next chunk of that, and makes the
// subscriber live when there is no more. Both happen under the hub's lock, so that a
// filter's acknowledgement goes before what the filter brings.
func (s *Subscriber) catchUp(ctx context.Context, dst []*wire.Frame) ([]*wire.Frame, error) {
	after, upTo, behind := s.behindWindow()
	var read []wire.Notification
	var through uint64
	var gone *wire.GapError
	if behind {
		// Not under the lock: the log is in a database.
		var err error
		read, through, err = s.hub.backlog.Read(ctx, after, upTo)
		if err != nil && !errors.As(err, &gone) {
			return dst, err
		}
	}

	h := s.hub
	h.mu.Lock()
	defer h.unlock()
	dst, ended := s.take(dst)
	if ended != nil || s.live.Load() || !s.started {
		return dst, ended
	}
	switch {
	case len(s.filters) == 0: // unsubscribed meanwhile: there is nothing that it could miss
		s.offset, s.breaks = h.offset, h.breaks
		h.setLive(s)
		return dst, nil
	case s.breaks != h.breaks: // something was lost while it was reading
		return append(dst, s.skip(h.breakReason)), nil
	case gone != nil:
		return append(dst, s.skip(gone.Reason)), nil
	case behind:
		for _, n := range read {
			n.Cursor.Epoch = h.epoch
			if s.wants(&n) {
				dst = append(dst, wire.NewFrame(n))
			}
		}
		s.offset = through
		s.tell(true)
		return dst, nil
	case s.offset < h.window.since:
		if h.backlog == nil { // it left the window while it was reading
			return append(dst, s.skip(wire.GapCursorExpired)), nil
		}
		s.tell(true)
		return dst, nil
	}

	chunk := 0
	h.window.after(s.offset, func(e entry) bool {
		s.offset = e.offset
		if n, ok := e.frame.Message.(wire.Notification); ok && s.wants(&n) {
			dst = append(dst, e.frame)
		}
		chunk++
		return chunk < replayChunk
	})
	if chunk == replayChunk {
		s.tell(true)
		return dst, nil
	}
	h.setLive(s)
	return dst, nil
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
	h.setLive(s)
	return wire.NewFrame(wire.Gap{Reason: reason, Cursor: h.cursor(h.offset)})
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
