package main_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attune/client"
	"attune/pg/pgtest"
	"attune/wire"
)

// The server's listen connection is ended under traffic, again and again. A client
// sees every notification, once and in order, or is told where some may be missing.
func TestEvents_ListenerTerminated(t *testing.T) {
	t.Parallel()
	const terminations = 5
	url := pgtest.Database(t)
	s, db := serve(t, "DATABASE_URL="+url), pgtest.Connect(t, url)
	writes, written := pgtest.Connect(t, url), new(atomic.Int64)

	ctx, stop := context.WithCancelCause(t.Context())
	over := errors.New("all was seen")
	defer stop(over)
	followers := map[string]*follower{"WebSocket": {}, "SSE": {}}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(over)
	for name, f := range followers {
		wg.Go(func() {
			if err := f.run(ctx, s.url, map[string]client.Transport{"WebSocket": client.WebSocket, "SSE": client.SSE}[name]); !errors.Is(err, over) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	both := func(ok func(f *follower) bool) bool { return ok(followers["WebSocket"]) && ok(followers["SSE"]) }
	eventually(t, "both are subscribed", func() bool { return both(func(f *follower) bool { return f.subscribed.Load() }) })

	writing, enough := context.WithCancel(t.Context())
	defer enough()
	wg.Go(func() {
		for id := int64(1); writing.Err() == nil; id++ {
			if _, err := writes.Exec(t.Context(), `SELECT pg_notify('execution_created', $1)`, fmt.Sprintf(`{"entity_type":"execution","entity_id":%d}`, id)); err != nil {
				t.Error(err)
				return
			}
			written.Store(id)
		}
	})
	flows := func() {
		t.Helper()
		before := written.Load()
		eventually(t, "the listener is live, and traffic flows", func() bool {
			status, _ := s.get(t, "/readyz")
			return status == http.StatusOK && both(func(f *follower) bool { return f.last.Load() > before+100 })
		})
	}
	for i := range terminations {
		flows()
		execSQL(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE application_name = 'attune listener' AND datname = current_database()`)
		eventually(t, "the gap is told", func() bool {
			return both(func(f *follower) bool { return f.gaps.Load() == int64(i+1) })
		})
	}
	flows() // the last one written must not fall into a gap
	enough()
	eventually(t, "the last one is seen", func() bool {
		return both(func(f *follower) bool { return f.last.Load() >= written.Load() })
	})
	stop(over)
	wg.Wait()
	for name, f := range followers {
		if len(f.faults) > 0 {
			t.Errorf("%s: %q", name, f.faults)
		}
		if f.gaps.Load() != terminations {
			t.Errorf("%s: %d gaps, want %d", name, f.gaps.Load(), terminations)
		}
		t.Logf("%s: of %d notifications %d seen, %d missing at %d gaps", name, written.Load(), f.seen, f.missed, f.gaps.Load())
	}
}

// follower is a client that counts.
type follower struct {
	subscribed atomic.Bool
	last, gaps atomic.Int64

	seen, missed int64
	gap          bool // since the last notification
	faults       []string
}

// run follows until ctx is done, whose cause it returns.
func (f *follower) run(ctx context.Context, url string, transport client.Transport) error {
	c, err := client.New(client.Config{BaseURL: url})
	if err != nil {
		return err
	}
	defer c.Close()
	opts := client.StreamOptions{
		Transport: transport,
		Lost:      func(err error, _ time.Duration) { f.fault("%v", err) },
	}
	return c.Stream(ctx, []string{"entity_type:execution"}, opts, func(m wire.ServerMessage) error {
		switch m := m.(type) {
		case wire.Welcome:
			f.subscribed.Store(transport == client.SSE)
		case wire.Subscribed:
			f.subscribed.Store(true)
		case wire.Gap:
			if m.Reason != wire.GapListenerReconnected {
				f.fault("gap: %s", m.Reason)
			}
			f.gap = true
			f.gaps.Add(1)
		case wire.Notification:
			f.notified(m)
		case wire.SourceStatus, wire.Unsubscribed, wire.Bye, wire.Pong, wire.Authenticated, *wire.Error:
		}
		return nil
	})
}

func (f *follower) notified(n wire.Notification) {
	var id int64
	if _, err := fmt.Sscan(n.EntityID.String(), &id); err != nil {
		f.fault("%v", err)
	}
	last := f.last.Load()
	switch {
	case id <= last:
		f.fault("%d after %d", id, last)
	case id > last+1 && !f.gap:
		f.fault("%d after %d without a gap", id, last)
	}
	f.seen++
	f.missed += id - last - 1
	f.gap = false
	f.last.Store(id)
}

func (f *follower) fault(format string, args ...any) {
	if len(f.faults) < 10 {
		f.faults = append(f.faults, fmt.Sprintf(format, args...))
	}
}
