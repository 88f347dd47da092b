package pg_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/broadcast"
	"attune/pg"
	"attune/pg/pgtest"
	"attune/wire"
)

// Whatever is committed while the listener's backend is killed again and again is
// delivered once and in order, or a gap stands where it is missing.
func TestListener_Run_TerminatedUnderTraffic(t *testing.T) {
	const writers, kills = 3, 10
	url := pgtest.Database(t)
	pool := connect(t, url)
	hub := broadcast.New(broadcast.Options{QueueSize: 1 << 20, WindowSize: 1 << 10})
	l := start(t, pg.ListenerConfig{URL: url, Pool: pool}, hub)

	subscriber, _ := hub.Connect()
	defer subscriber.Close()
	all, err := wire.ParseFilter("all")
	if err != nil {
		t.Fatal(err)
	}
	err = subscriber.Subscribe(t.Context(), []wire.Filter{all}, nil, func(broadcast.Start) []wire.ServerMessage { return nil })
	if err != nil {
		t.Fatal(err)
	}

	// Each writer counts on its own, so that its numbers are in the order of its commits.
	done := make(chan struct{})
	committed := make([]int, writers)
	var wg sync.WaitGroup
	write := func(writer int) {
		committed[writer]++
		_, err := pool.Exec(context.Background(), "SELECT pg_notify('execution_created', $1)",
			fmt.Sprintf(`{"entity_type":"writer%d","entity_id":%d}`, writer, committed[writer]))
		if err != nil {
			t.Error(err)
		}
	}
	for writer := range writers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					write(writer)
				}
			}
		})
	}
	published := func() uint64 { return l.Stats().Notifications["execution_created"] }
	var killed uint32
	for range kills {
		eventually(t, "live again", func() bool { s := l.Stats(); return s.Live && s.BackendPID != killed })
		before := published()
		eventually(t, "notifications arrive", func() bool { return published() > before+20 })
		killed = l.Stats().BackendPID
		terminate(t, pool, killed)
	}
	eventually(t, "live again", func() bool { s := l.Stats(); return s.Live && s.BackendPID != killed })
	close(done)
	wg.Wait()
	for writer := range writers {
		write(writer) // the last one of each arrives: what was lost before it shows
	}

	var report traffic
	report.read(t, subscriber, committed)
	total := 0
	for _, n := range committed {
		total += n
	}
	t.Logf("%d committed, %d delivered, %d gaps, %d kills", total, report.delivered, report.gaps, kills)
	if report.gaps != kills {
		t.Errorf("%d gaps, want one for each of %d kills", report.gaps, kills)
	}
	if diff := cmp.Diff([]string(nil), report.violations); diff != "" {
		t.Error(diff)
	}
}

// traffic checks what a subscriber got.
type traffic struct {
	delivered, gaps int
	violations      []string
}

// read takes what there is for s until the last notification of every writer has come.
func (r *traffic) read(t *testing.T, s *broadcast.Subscriber, committed []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := make([]int, len(committed))
	gapsAt := make([]int, len(committed)) // the gaps told when the writer's last one was seen
	for open := len(committed); open > 0; {
		frames, err := s.Next(ctx, nil)
		if err != nil {
			t.Fatalf("seen %v of %v: %v", seen, committed, err)
		}
		for _, frame := range frames {
			switch m := frame.Message.(type) {
			case wire.Gap:
				r.gaps++
			case wire.Notification:
				r.delivered++
				var writer int
				if _, err := fmt.Sscanf(m.EntityType, "writer%d", &writer); err != nil {
					t.Fatal(m)
				}
				id64, _ := m.EntityID.Int64()
				id := int(id64)
				switch {
				case id <= seen[writer]:
					r.violations = append(r.violations, fmt.Sprintf("writer %d: %d after %d", writer, id, seen[writer]))
				case id > seen[writer]+1 && r.gaps == gapsAt[writer]:
					r.violations = append(r.violations, fmt.Sprintf("writer %d: nothing between %d and %d, and no gap", writer, seen[writer], id))
				}
				seen[writer], gapsAt[writer] = id, r.gaps
				if id == committed[writer] {
					open--
				}
			default:
			}
		}
	}
}
