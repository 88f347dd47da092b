package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attune/faults"
)

// Clients connect with the cursors of random notifications, at random moments while
// more are committed, and go away after a random number of frames: through the seam of
// replay and live delivery, thousands of times.
func TestReconnect_CutPoints(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = true
		// A small window, so that in log the log itself is read, too.
		window := "ATTUNE_WINDOW_SIZE=100000"
		if source == sourceLog {
			window = "ATTUNE_WINDOW_SIZE=200"
		}
		s.serve(s.db.url, patientCanary, window)
		reference := newClient(t, "reference", overWS, s.server.url, "all")
		s.add(reference)
		s.subscribed()
		s.db.commit(300, 20)
		stop := s.db.load(2, 100)
		total := int64(times(300, 10_000))
		s.cutPoints(reference, total)
		stop()
		s.injected.Add(total)
		s.note = fmt.Sprintf("%d of them in the seam", s.seams)
		s.finish()
	})
}

// cutPoints makes that many connections from cursors that reference has received.
func (s *scene) cutPoints(reference *client, total int64) {
	s.t.Helper()
	const cutters = 24
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	clients := make([]*client, cutters)
	for i := range clients {
		transport, filters := overWS, []string{"all"}
		if i%2 == 1 {
			transport = overSSE
		}
		if i%3 == 2 {
			filters = []string{"entity:orders:1", "entity:orders:2", "user:0"}
		}
		c := newClient(s.t, fmt.Sprintf("cutter %d", i), transport, s.server.url, filters...)
		c.rng = rand.New(rand.NewPCG(*seed, uint64(i)))
		clients[i] = c
		wg.Go(func() {
			for done.Add(1) <= total && ctx.Err() == nil {
				c.cut(ctx, reference)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		s.t.Errorf("%d of %d cut points", done.Load(), total)
	}
	for _, c := range clients {
		s.seams += c.seams
	}
	s.others = append(s.others, clients...)
}

// cut connects from a cursor of reference's and goes away after some frames.
func (c *client) cut(ctx context.Context, reference *client) {
	reference.mu.Lock()
	frames := reference.record.Connections[0].Frames
	var f faults.Frame
	for f.Kind != faults.KindNotification { // of the latest more often: the seam is near
		back := c.rng.IntN(len(frames))
		if c.rng.IntN(2) == 0 {
			back = c.rng.IntN(min(60, len(frames)))
		}
		f = frames[len(frames)-1-back]
	}
	latest := reference.cursor
	reference.mu.Unlock()

	c.mu.Lock()
	c.cursor = f.Cursor
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last := c.rng.IntN(400)
	var number int
	live := false
	c.mu.Lock()
	c.onFrame = func(f faults.Frame) {
		if f.Cursor == latest {
			live = true // what comes after was not there when it connected
		} else if live && f.Kind == faults.KindNotification {
			c.seams, live = c.seams+1, false
		}
		if number++; number > last {
			cancel()
		}
	}
	c.mu.Unlock()
	timer := time.AfterFunc(time.Duration(c.rng.IntN(400))*time.Millisecond, cancel)
	defer timer.Stop()
	if c.transport == overSSE {
		c.overSSE(ctx)
	} else {
		c.overWebSocket(ctx)
	}
}
