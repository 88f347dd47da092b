package faults_test

import (
	"context"
	"fmt"
	"testing"

	"attune/faults"
)

// Cursors that nothing can be proved from: garbage, of the future, of another database,
// of a process that is gone, of what was pruned. Each is answered by a gap, before
// anything else.
func TestCursor_Unprovable(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.serve(s.db.url, patientCanary)
		other := newScene(t, source)
		other.serve(other.db.url, patientCanary)
		s.noGaps = false
		reference := newClient(t, "reference", overWS, s.server.url, "all")
		s.add(reference)
		s.subscribed()
		stranger := newClient(t, "stranger", overSSE, other.server.url, "all")
		other.add(stranger)
		other.subscribed()
		s.db.commit(100, 10)
		other.db.commit(100, 10)
		foreign := stranger.lastCursor(50)
		own := reference.lastCursor(50)
		cursors := []string{"garbage", "a.b.c", "0.0", ".1", "x.99999999999999999999", own + "9", own + "0000", foreign, "%20", own}
		ownReason := "cursor_unknown" // of the process before
		if source == sourceLog {
			s.db.commit(10, 10)
			reference.lastCursor(111) // with the two frames before the notifications
			s.db.prune(1)
			ownReason = "cursor_expired" // and the window that would still have it is the process's
		}
		s.fault(s.server.kill)
		s.server.start()
		s.server.ready()
		s.subscribed()
		for round := range times(1, 20) {
			for i, cursor := range cursors {
				for _, transport := range []string{overWS, overSSE} {
					c := newClient(t, fmt.Sprintf("%d cursor %d", round, i), transport, s.server.url, "all")
					s.fault(func() {
						if reason := s.visit(c, cursor); cursor == own && reason != ownReason {
							t.Errorf("the cursor %q is answered by %q, want %q", cursor, reason, ownReason)
						}
					})
				}
			}
			s.db.commit(10, 10)
		}
		s.finish()
		other.sampled()
	})
}

// visit connects with a cursor that is no good, goes when it has been told, and returns
// the reason.
func (s *scene) visit(c *client, cursor string) (reason string) {
	s.t.Helper()
	c.cursor = cursor
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	c.onFrame = func(f faults.Frame) {
		if f.Kind == faults.KindGap {
			reason = f.Reason
			cancel()
		}
	}
	if c.transport == overSSE {
		c.overSSE(ctx)
	} else {
		c.overWebSocket(ctx)
	}
	if reason == "" {
		s.t.Errorf("%s with the cursor %q was not told", c.record.Name, cursor)
	}
	// To the checker it is foreign, also where it was another process's.
	c.record.Connections[0].Resume = "foreign " + cursor
	s.others = append(s.others, c)
	return reason
}

// lastCursor waits for more than that many frames and returns the cursor of the last.
func (c *client) lastCursor(frames int) string {
	c.await(patience, func() bool {
		n := len(c.record.Connections)
		return n > 0 && len(c.record.Connections[n-1].Frames) > frames
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cursor
}
