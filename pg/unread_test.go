package pg_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"attune/pg"
	"attune/pg/pgtest"
	"attune/wire"
)

// unreadRecorder is a LogSink that remembers how many notifications it was handed with
// more unread, and how many without.
type unreadRecorder struct {
	logRecorder

	listener atomic.Pointer[pg.Listener]
	mu       sync.Mutex
	came     map[bool]int
}

func newUnreadRecorder() *unreadRecorder {
	return &unreadRecorder{logRecorder: logRecorder{newRecorder()}, came: make(map[bool]int)}
}

func (r *unreadRecorder) Publish(ns ...wire.Notification) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.listener.Load()
	r.came[l != nil && l.Unread()] += len(ns)
}

func (r *unreadRecorder) PublishLogged(ns ...wire.Notification)   { r.Publish(ns...) }
func (r *unreadRecorder) PublishUnlogged(ns ...wire.Notification) { r.Publish(ns...) }

// await waits until n have come, and returns how many of them did while more was unread.
func (r *unreadRecorder) await(t *testing.T, n int) (unread int) {
	t.Helper()
	eventually(t, "notifications", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		unread = r.came[true]
		return r.came[true]+r.came[false] >= n
	})
	return unread
}

// TestListener_Unread: whoever delivers can tell that there is more to read, and that
// there is not.
func TestListener_Unread(t *testing.T) {
	t.Parallel()
	const many = 1000 // some 400 kB
	url, sink := pgtest.Database(t), newUnreadRecorder()
	pool := connect(t, url)
	l := start(t, pg.ListenerConfig{URL: url, Pool: pool}, sink)
	sink.listener.Store(l)
	if _, err := pool.Exec(t.Context(), `SELECT pg_notify('execution_created',
		json_build_object('entity_type', 'execution', 'entity_id', i, 'filler', repeat('x', 350))::text) FROM generate_series(1, $1::int) i`, many); err != nil {
		t.Fatal(err)
	}
	if unread := sink.await(t, many); unread < many/4 {
		t.Errorf("%d of %d were published while more was unread", unread, many)
	}
	notify(t, pool, 1)
	sink.await(t, many+1)
	eventually(t, "nothing unread", func() bool { return !l.Unread() })
}

// TestLogListener_Unread: the same of what is read from the log.
func TestLogListener_Unread(t *testing.T) {
	t.Parallel()
	const many = 600 // three reads' worth
	url, pool, _ := newLog(t)
	sink := newUnreadRecorder()
	l := followLog(t, url, pool, sink)
	sink.listener.Store(l)
	if _, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend($1), attune_live.notify('c', 'orders', i::text, '{}') FROM generate_series(1, $2::int) i`,
		l.Stats().BackendPID, many); err != nil {
		t.Fatal(err)
	}
	if unread := sink.await(t, many); unread < many/3 {
		t.Errorf("%d of %d were published while more was unread", unread, many)
	}
	eventually(t, "nothing unread", func() bool { return !l.Unread() })
	eventually(t, "live again", func() bool { return l.Stats().Live })
}
