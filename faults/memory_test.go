package faults_test

import (
	"context"
	"fmt"
	"testing"

	"attune/attunetest"
	"attune/faults"
)

// Large notifications pass while the server retains as many for replay as it may; its
// memory stays within the cap. Clients come back from before the window: in log, to
// the log.
func TestMemory_LargeBodies(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = source == sourceLog // in listen the window is all there is
		// The race detector would multiply what is measured here.
		s.binary = attunetest.PlainBinary(t)
		s.serve(s.db.url, patientCanary, "ATTUNE_WINDOW_SIZE=100000", fmt.Sprintf("ATTUNE_WINDOW_BYTES=%d", times(4, 16)<<20), "ATTUNE_QUEUE_SIZE=1024")
		s.resident = int64(times(110, 200)) << 20
		size, total := times(1<<17, 1<<20), times(260, 1200)
		if source == sourceListen {
			size, total = 7800, times(2000, 20_000)
		}
		first := newClient(t, "all 1", overSSE, s.server.url, "all")
		s.add(first)
		s.subscribed()
		batch := max(1, 1<<20/size)
		s.db.bulk(1, size)
		start := first.lastCursor(1)
		for done := 0; done < total; done += batch {
			s.fault(func() { s.db.bulk(batch, size) })
			if !first.await(patience, func() bool { return first.received >= done }) {
				t.Fatal("a reader does not keep up")
			}
		}
		s.read(newClient(t, "back 3", overWS, s.server.url, "all"), start, min(total, 150))
		s.note = fmt.Sprintf("%d MB of bodies, server at most %d MB", total*size>>20, s.peak()>>20)
		s.finish()
	})
}

// read connects with a cursor and goes after that many notifications, or a gap.
func (s *scene) read(c *client, cursor string, count int) {
	s.t.Helper()
	c.cursor = cursor
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	got := 0
	c.onFrame = func(f faults.Frame) {
		if f.Kind == faults.KindNotification {
			got++
		}
		if got == count || f.Kind == faults.KindGap {
			cancel()
		}
	}
	c.overWebSocket(ctx)
	if got < count && len(c.gaps()) == 0 {
		s.t.Errorf("%s has got %d of %d", c.record.Name, got, count)
	}
	s.others = append(s.others, c)
}

// peak ends the sampling and returns the most memory that the server had.
func (s *scene) peak() int64 {
	s.samples, s.sampled = s.sampled(), nil
	var most int64
	for _, sample := range s.samples {
		most = max(most, sample.Resident)
	}
	return most
}
