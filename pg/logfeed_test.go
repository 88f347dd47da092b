package pg_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

// logRecorder is a LogSink that remembers what it was told.
type logRecorder struct{ *recorder }

func (r logRecorder) PublishLogged(ns ...wire.Notification) {
	for _, n := range ns {
		r.Publish(n)
	}
}

func (r logRecorder) PublishUnlogged(n wire.Notification) { r.add("unlogged " + n.EntityID.String()) }

func (r logRecorder) Restart(_ string, _ uint64, reason wire.GapReason) {
	r.add("restart " + string(reason))
}

// TestLogListener_Uninstalled takes the log away from a server that follows it: it must
// say what to do, and go on by itself once that is done.
func TestLogListener_Uninstalled(t *testing.T) {
	url := pgtest.Database(t)
	pool, sink := connect(t, url), logRecorder{newRecorder()}
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	l := pg.NewLogListener(pg.ListenerConfig{URL: url, Pool: pool, CanaryInterval: 200 * time.Millisecond}, log, sink)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	eventually(t, "live", func() bool { return l.Stats().Live })

	if left, err := live.Uninstall(t.Context(), pool); err != nil || len(left) > 0 {
		t.Fatalf("uninstall: %v, left: %v", err, left)
	}
	eventually(t, "the remedy", func() bool {
		return strings.Contains(l.Stats().Problem, pg.ErrNoLog.Error()+" any more: `attune db install` makes it")
	})
	if problem := l.Stats().Problem; strings.Contains(problem, "SQLSTATE") {
		t.Errorf("the problem is PostgreSQL's, not ours: %s", problem)
	}

	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	eventually(t, "live again", func() bool { return l.Stats().Live })
	if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', 'orders', '7', '{}')`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a gap, and the new log's notifications", func() bool {
		told := strings.Join(sink.all(), "\n")
		_, after, found := strings.Cut(told, "restart "+string(wire.GapCursorUnknown))
		return found && strings.Contains(after, "notification orders 7")
	})
}
