package pg_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/pg/pgtest"
	"attune/wire"
)

// interval is the time between canaries where a test waits for them: long enough for a
// busy machine not to look like a deaf connection.
const interval = time.Second

func TestListener_Run(t *testing.T) {
	t.Run("Delivers", func(t *testing.T) {
		url := pgtest.Database(t)
		pool, sink := connect(t, url), newRecorder()
		start(t, pg.ListenerConfig{URL: url, Pool: pool}, sink)
		for id := range 3 {
			notify(t, pool, id)
		}
		want := []string{"mode live", "notification execution 0", "notification execution 1", "notification execution 2"}
		if diff := cmp.Diff(want, sink.await(t, 0, 4)); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("ChannelsQuotedAndOnce", func(t *testing.T) {
		url := pgtest.Database(t)
		pool, sink := connect(t, url), newRecorder()
		odd := `Orders "2"; DROP`
		l := start(t, pg.ListenerConfig{URL: url, Pool: pool, Channels: []string{odd, "plain", odd}}, sink)
		for i, channel := range []string{odd, "plain", "orders", odd} {
			if _, err := pool.Exec(t.Context(), "SELECT pg_notify($1, $2)", channel, payload(i)); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"mode live", "notification execution 0", "notification execution 1", "notification execution 3"}
		if diff := cmp.Diff(want, sink.await(t, 0, 4)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{odd, "plain"}, l.Stats().Channels); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]uint64{odd: 2, "plain": 1}, l.Stats().Notifications); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("OtherEncoding", func(t *testing.T) {
		pool, sink := connect(t, beside(t, pgtest.Database(t), "latin1", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")), newRecorder()
		start(t, pg.ListenerConfig{URL: pool.Config().ConnString(), Pool: pool}, sink)
		if _, err := pool.Exec(t.Context(), "SELECT pg_notify('execution_created', $1)", `{"entity_type":"execution","entity_id":1,"name":"Größe"}`); err != nil {
			t.Fatal(err)
		}
		want := []string{"mode live", "notification execution 1"}
		if diff := cmp.Diff(want, sink.await(t, 0, 2)); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("Cancelled", func(t *testing.T) {
		url := pgtest.Database(t)
		pool := connect(t, url)
		l, stop := run(t, pg.ListenerConfig{URL: url, Pool: pool}, newRecorder())
		<-l.Live()
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Run returned %s after the cancel", took)
		}
		eventually(t, "the connection is closed", func() bool { return listening(t, pool) == 0 })
		if s := l.Stats(); s.Live || s.Problem == "" {
			t.Errorf("after Run: live %t, problem %q", s.Live, s.Problem)
		}
	})

	t.Run("CancelledWhileServerIsSilent", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		p := pgtest.NewProxy(t, url)
		sink := newRecorder()
		l, stop := run(t, pg.ListenerConfig{URL: p.URL, Pool: connect(t, url), CanaryInterval: interval}, sink)
		<-l.Live()
		p.HalfOpen(false)
		sink.await(t, 1, 1) // degraded: it is connecting anew, and gets no answer
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Run returned %s after the cancel", took)
		}
	})
}

func TestListener_Run_Lost(t *testing.T) {
	t.Parallel()
	t.Run("BackendTerminated", func(t *testing.T) {
		url := pgtest.Database(t)
		pool, sink := connect(t, url), newRecorder()
		l := start(t, pg.ListenerConfig{URL: url, Pool: pool}, sink)
		began := time.Now()
		terminate(t, pool, l.Stats().BackendPID)
		sink.await(t, 1, 1)
		took := time.Since(began)
		t.Logf("gap told %s after pg_terminate_backend", took)
		if took > time.Second {
			t.Errorf("gap told %s after pg_terminate_backend", took)
		}
		eventually(t, "live again", func() bool { return l.Stats().Live })
		notify(t, pool, 7)
		want := []string{"gap listener_reconnected", "notification execution 7"}
		if diff := cmp.Diff(want, sink.await(t, 1, 2)); diff != "" {
			t.Error(diff)
		}
		if s := l.Stats(); s.Reconnects != 1 || s.Problem != "" {
			t.Errorf("reconnects %d, problem %q", s.Reconnects, s.Problem)
		}
	})

	t.Run("Outage", func(t *testing.T) {
		t.Parallel()
		l, p, pool, sink := startProxied(t)

		began := time.Now()
		p.Refuse(true)
		eventually(t, "a problem is reported", func() bool { return !l.Stats().Live })
		sink.await(t, 1, 1)
		if took := time.Since(began); took < time.Second || took > 3*time.Second {
			t.Errorf("degraded after %s, want about a second", took)
		}
		if s := l.Stats(); !strings.Contains(s.Problem, "127.0.0.1") || s.BackendPID != 0 {
			t.Errorf("problem %q, backend %d", s.Problem, s.BackendPID)
		}
		notify(t, pool, 1) // is lost
		p.Refuse(false)
		sink.await(t, 2, 2)
		notify(t, pool, 2)
		want := []string{"mode degraded", "gap listener_reconnected", "mode live", "notification execution 2"}
		if diff := cmp.Diff(want, sink.await(t, 1, 4)); diff != "" {
			t.Error(diff)
		}
	})
}

// A notification is not held back by a message of another kind that follows it.
func TestListener_Run_Notices(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("client_min_messages", "debug5")
	u.RawQuery = q.Encode()
	pool, sink := connect(t, database), newRecorder()
	start(t, pg.ListenerConfig{URL: u.String(), Pool: pool}, sink)
	for id := range 3 {
		notify(t, pool, id)
		sink.await(t, 1+id, 1)
	}
}

// A connection that is up but brings nothing is found within two intervals.
func TestListener_Run_Deaf(t *testing.T) {
	t.Parallel()
	deaf := map[string]func(p *pgtest.Proxy){
		"HalfOpen": func(p *pgtest.Proxy) { p.HalfOpen(true) },
		"Unlisten": func(p *pgtest.Proxy) { p.Inject("UNLISTEN *") },
	}
	for name, deafen := range deaf {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, p, pool, sink := startProxied(t)
			pid := l.Stats().BackendPID
			awaitCanary(t, l)

			began := time.Now() // just after a canary: the worst moment
			deafen(p)
			notify(t, pool, 1) // is lost
			sink.await(t, 1, 1)
			took := time.Since(began)
			t.Logf("degraded after %.2f intervals", float64(took)/float64(interval))
			if took > 2*interval {
				t.Errorf("deafness found after %s, want at most %s", took, 2*interval)
			}
			sink.await(t, 2, 2)
			notify(t, pool, 2)
			want := []string{"mode degraded", "gap listener_reconnected", "mode live", "notification execution 2"}
			if diff := cmp.Diff(want, sink.await(t, 1, 4)); diff != "" {
				t.Error(diff)
			}
			if s := l.Stats(); s.BackendPID == pid || s.Reconnects != 1 {
				t.Errorf("backend %d as before %d, reconnects %d", s.BackendPID, pid, s.Reconnects)
			}
		})
	}

	// The end of a notification, which was read with one before it, does not come.
	t.Run("Torn", func(t *testing.T) {
		t.Parallel()
		l, p, pool, sink := startProxied(t)
		awaitCanary(t, l)

		p.Tear()
		notify(t, pool, 1)
		sink.await(t, 1, 1)
		if !l.Stats().Live {
			t.Error("a whole notification waited for the rest of half a one")
		}
		want := []string{"notification execution 1", "mode degraded", "gap listener_reconnected", "mode live"}
		if diff := cmp.Diff(want, sink.await(t, 1, 4)); diff != "" {
			t.Error(diff)
		}
		notify(t, pool, 2)
		sink.await(t, 5, 1)
	})

	// The pool is away: nothing shows that notifications arrive, but the listen
	// connection is left alone, and what it brings is delivered.
	t.Run("CanaryCannotBeSent", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		p := pgtest.NewProxy(t, url)
		direct, sink := connect(t, url), newRecorder()
		l := start(t, pg.ListenerConfig{URL: url, Pool: connect(t, p.URL), CanaryInterval: interval}, sink)
		pid := l.Stats().BackendPID

		p.Refuse(true)
		sink.await(t, 1, 1)
		if s := l.Stats(); s.Live || !strings.Contains(s.Problem, "send a canary to PostgreSQL at host 127.0.0.1") {
			t.Errorf("live %t, problem %q", s.Live, s.Problem)
		}
		notify(t, direct, 1)
		sink.await(t, 2, 1)
		p.Refuse(false)
		want := []string{"mode degraded", "notification execution 1", "gap listener_reconnected", "mode live"}
		if diff := cmp.Diff(want, sink.await(t, 1, 4)); diff != "" {
			t.Error(diff)
		}
		if s := l.Stats(); !s.Live || s.BackendPID != pid || s.Reconnects != 0 {
			t.Errorf("live %t, backend %d, was %d, reconnects %d", s.Live, s.BackendPID, pid, s.Reconnects)
		}
	})

	// One pooled connection that died silently must not look like a source that did.
	t.Run("PooledConnectionHalfOpen", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		p := pgtest.NewProxy(t, url)
		sink := newRecorder()
		l := start(t, pg.ListenerConfig{URL: url, Pool: connect(t, p.URL), CanaryInterval: interval}, sink)
		p.HalfOpen(true)
		for range 2 {
			awaitCanary(t, l)
		}
		if diff := cmp.Diff([]string{"mode live"}, sink.all()); diff != "" {
			t.Error(diff)
		}
	})

	// A canary in line behind a great many notifications is late, not lost.
	t.Run("Busy", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		pool := connect(t, url)
		sink := &slowSink{recorder: newRecorder(), turn: time.NewTicker(5 * time.Millisecond)}
		t.Cleanup(sink.turn.Stop)
		l := start(t, pg.ListenerConfig{URL: url, Pool: pool, CanaryInterval: interval / 2}, sink)
		const notifications = 600
		// So large that few are read at once.
		if _, err := pool.Exec(t.Context(), `SELECT pg_notify('execution_created', '{"entity_type":"execution","entity_id":' || i || ',"pad":"' || repeat('.', 1000) || '"}')
			FROM generate_series(1, $1::int) i`, notifications); err != nil {
			t.Fatal(err)
		}
		lines := sink.await(t, 1, notifications+3)
		eventually(t, "live again", func() bool { return l.Stats().Live })
		var others []string
		for _, line := range lines {
			if !strings.HasPrefix(line, "notification") {
				others = append(others, line)
			}
		}
		if diff := cmp.Diff([]string{"mode degraded", "gap listener_reconnected", "mode live"}, others); diff != "" {
			t.Error(diff)
		}
		if s := l.Stats(); s.Reconnects != 0 || s.Notifications["execution_created"] != notifications {
			t.Errorf("reconnects %d, notifications %d", s.Reconnects, s.Notifications["execution_created"])
		}
	})
}

// startProxied starts a listener whose connection goes through a proxy; its pool's do not.
func startProxied(t *testing.T) (*pg.Listener, *pgtest.Proxy, *pgxpool.Pool, *recorder) {
	t.Helper()
	url := pgtest.Database(t)
	p := pgtest.NewProxy(t, url)
	pool, sink := connect(t, url), newRecorder()
	return start(t, pg.ListenerConfig{URL: p.URL, Pool: pool, CanaryInterval: interval}, sink), p, pool, sink
}

// awaitCanary waits until another canary has come back.
func awaitCanary(t *testing.T, l *pg.Listener) {
	t.Helper()
	passed := l.Stats().LastCanary
	eventually(t, "another canary has passed", func() bool { return l.Stats().LastCanary.After(passed) })
}

// slowSink takes one notification each turn.
type slowSink struct {
	*recorder
	turn *time.Ticker
}

func (s *slowSink) Publish(ns ...wire.Notification) {
	for _, n := range ns {
		<-s.turn.C
		s.recorder.Publish(n)
	}
}

// terminate ends a session of PostgreSQL.
func terminate(t *testing.T, pool *pgxpool.Pool, pid uint32) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "SELECT pg_terminate_backend($1)", pid); err != nil {
		t.Fatal(err)
	}
}

// listening returns how many connections of listeners the database has.
func listening(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	err := pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'attune listener'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// beside makes a database of that kind beside the one of url, and returns its URL.
func beside(t *testing.T, url, kind, options string) string {
	t.Helper()
	admin := connect(t, inDatabase(t, url, "postgres")) // in the one of url it might be in the way of a copy
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	name := config.Database + "_" + kind
	exec(t, admin, "CREATE DATABASE "+name+" "+options)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return inDatabase(t, url, name)
}
