package pg_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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

func (r logRecorder) PublishUnlogged(ns ...wire.Notification) {
	for _, n := range ns {
		r.add("unlogged " + n.EntityID.String())
	}
}

func (r logRecorder) Restart(_ string, _ uint64, reason wire.GapReason) {
	r.add("restart " + string(reason))
}

// since returns what it was told after the first lines, but for the source's health.
func (r logRecorder) since(lines int) []string {
	return slices.DeleteFunc(r.all()[lines:], func(line string) bool { return strings.HasPrefix(line, "mode ") })
}

// newLog returns a database with a log, and where its notifications may go.
func newLog(t *testing.T) (url string, pool *pgxpool.Pool, sink logRecorder) {
	t.Helper()
	return newLogIn(t, pgtest.Database(t))
}

// newLogIn does as newLog in the database at url.
func newLogIn(t *testing.T, url string) (string, *pgxpool.Pool, logRecorder) {
	t.Helper()
	pool := connect(t, url)
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return url, pool, logRecorder{newRecorder()}
}

// followLog runs a listener of the log until t ends, and returns when it is live.
func followLog(t *testing.T, url string, pool *pgxpool.Pool, sink pg.LogSink, changes ...func(*pg.ListenerConfig)) *pg.Listener {
	t.Helper()
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	cfg := pg.ListenerConfig{URL: url, Pool: pool, CanaryInterval: 200 * time.Millisecond}
	for _, change := range changes {
		change(&cfg)
	}
	l := pg.NewLogListener(cfg, log, sink)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	eventually(t, "live", func() bool { return l.Stats().Live })
	return l
}

// untilAnnounced writes until a row is announced.
func untilAnnounced(t *testing.T, l *pg.Listener, pool *pgxpool.Pool) {
	t.Helper()
	before := l.Stats().Log.Announced
	eventually(t, "an announcement", func() bool {
		if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', 'orders', '1', '{}')`); err != nil {
			t.Fatal(err)
		}
		return l.Stats().Log.Announced > before
	})
}

// TestLogListener_Uninstalled takes the log away from a server that follows it: it must
// say what to do, and go on by itself once that is done.
func TestLogListener_Uninstalled(t *testing.T) {
	url, pool, sink := newLog(t)
	l := followLog(t, url, pool, sink)

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

// TestLogListener_Busy has writers commit as fast as they can: the listener must have
// them announce no more, read all that they commit, in order and once, also when its
// connection is lost meanwhile, and have the next one announced when they have ended.
func TestLogListener_Busy(t *testing.T) {
	t.Parallel()
	url, pool, sink := newLog(t)
	l := followLog(t, url, pool, sink)

	const sessions = 4
	ctx, enough := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer enough()
	for i := range sessions {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', $1, $2, '{}')`, fmt.Sprint("w", i), fmt.Sprint(n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	polling := func() bool { return l.Stats().Log.Polling }
	eventually(t, "reading instead of being told", polling)
	if _, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, l.Stats().BackendPID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new connection", func() bool { return l.Stats().Reconnects > 0 && l.Stats().Live })
	eventually(t, "reading again", polling)
	enough()
	writers.Wait()
	eventually(t, "being told again", func() bool { return !polling() })

	untilAnnounced(t, l, pool)
	var want []string
	rows, err := pool.Query(t.Context(), `SELECT 'notification ' || entity_type || ' ' || entity_id FROM attune_live.notification_log ORDER BY seq`)
	if err == nil {
		want, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatal(err)
	}
	published := func() []string {
		return slices.DeleteFunc(sink.all(), func(line string) bool { return !strings.HasPrefix(line, "notification ") })
	}
	eventually(t, "as many as were committed", func() bool { return len(published()) >= len(want) })
	if diff := cmp.Diff(want, published()); diff != "" {
		t.Errorf("-committed +published:\n%.2000s", diff)
	}
}

// TestLogListener_Pruned prunes what was committed while the listener was away: it must not
// pass for caught up, whether rows are left after that or none.
func TestLogListener_Pruned(t *testing.T) {
	for name, test := range map[string]struct {
		retention live.Retention
		want      []string
	}{
		"SomeLeft": {live.Retention{MaxRows: 1}, []string{"restart cursor_expired", "notification orders 3", "notification orders 4"}},
		"NoneLeft": {live.Retention{MaxAge: time.Hour}, []string{"restart cursor_expired", "notification orders 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, pool, sink := newLog(t)
			proxy := pgtest.NewProxy(t, url)
			l := followLog(t, proxy.URL, pool, sink)
			proxy.Refuse(true)
			told := len(sink.all())

			exec(t, pool, `SELECT attune_live.notify('c', 'orders', i::text, '{}') FROM generate_series(1, 3) i`)
			exec(t, pool, `UPDATE attune_live.notification_log SET created = now() - interval '1 day'`)
			if _, err := live.Prune(t.Context(), pool, test.retention); err != nil {
				t.Fatal(err)
			}
			proxy.Refuse(false)
			eventually(t, "being told", func() bool { return slices.Contains(sink.since(told), test.want[0]) })
			eventually(t, "live, and nothing behind", func() bool { s := l.Stats(); return s.Live && s.Log.Lag == 0 })
			exec(t, pool, `SELECT attune_live.notify('c', 'orders', '4', '{}')`)

			last := test.want[len(test.want)-1]
			eventually(t, last, func() bool { return slices.Contains(sink.all(), last) })
			if diff := cmp.Diff(test.want, sink.since(told)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestLogListener_PrunedAtOnce has rows gone by the time that they are announced: the
// listener finds out when it reads them.
func TestLogListener_PrunedAtOnce(t *testing.T) {
	t.Parallel()
	url, pool, sink := newLog(t)
	followLog(t, url, pool, sink)
	told := len(sink.all())
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		// Too large to be announced with what they say.
		_, err := tx.Exec(t.Context(), `SET CONSTRAINTS ALL IMMEDIATE;
			SELECT attune_live.notify('c', 'orders', i::text, to_jsonb(repeat('x', 9000))) FROM generate_series(1, 3) i`, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			_, err = live.Prune(t.Context(), tx, live.Retention{MaxRows: 1})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the row that is left", func() bool { return slices.Contains(sink.all(), "notification orders 3") })
	want := []string{"restart " + string(wire.GapCursorExpired), "notification orders 3"}
	if diff := cmp.Diff(want, sink.since(told)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Rows that PostgreSQL takes for JSON and its readers do not.
const (
	tooDeep = `SELECT attune_live.notify('c', 'orders', '99', (repeat('[', 10001) || repeat(']', 10001))::jsonb)`
	notUTF8 = `SELECT attune_live.notify('c', 'orders', '99', ('"' || chr(255) || '"')::jsonb)` // in a database that checks nothing
)

// TestLogListener_NoNotification commits rows that are no notifications, one by one and
// several while the listener is away: each is counted, a gap stands in the place of those
// that follow each other, and what is around them arrives.
func TestLogListener_NoNotification(t *testing.T) {
	for name, test := range map[string]struct{ encoding, bad string }{
		"TooDeep": {"UTF8", tooDeep},
		"NotUTF8": {"SQL_ASCII", notUTF8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, pool, sink := newLogIn(t, beside(t, pgtest.Database(t), "rows", "ENCODING '"+test.encoding+"' LOCALE 'C' TEMPLATE template0"))
			proxy, out := pgtest.NewProxy(t, url), &logs{}
			l := followLog(t, proxy.URL, pool, sink, func(cfg *pg.ListenerConfig) { cfg.Logger = out.logger() })
			told := len(sink.all())
			write := func(id string) {
				t.Helper()
				exec(t, pool, `SELECT attune_live.notify('c', 'orders', $1, '{}')`, id)
			}
			arrives := func(id string) {
				t.Helper()
				eventually(t, id, func() bool { return slices.Contains(sink.all(), "notification orders "+id) })
			}

			write("1")
			exec(t, pool, test.bad)
			write("3")
			arrives("3")
			proxy.Refuse(true)
			write("4")
			exec(t, pool, test.bad)
			exec(t, pool, test.bad)
			write("7")
			write("8")
			exec(t, pool, test.bad)
			proxy.Refuse(false)
			eventually(t, "the last one", func() bool { return l.Stats().Skipped[pg.SkipLogRow] == 4 })
			write("10")
			arrives("10")

			gap := "restart " + string(wire.GapSourceOverflow)
			want := []string{
				"notification orders 1", gap, "notification orders 3", "notification orders 4", gap,
				"notification orders 7", "notification orders 8", gap, "notification orders 10",
			}
			if diff := cmp.Diff(want, sink.since(told)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			records := out.records(t, "notification skipped")
			if len(records) == 0 {
				t.Fatal("nothing was logged")
			}
			if r := records[0]; r["reason"] != string(pg.SkipLogRow) || r["seq"] != 2.0 || r["level"] != "WARN" {
				t.Error(r)
			}
			if strings.Contains(out.text.String(), "[[") || strings.Contains(out.text.String(), "\xff") {
				t.Error("the content of a row was logged")
			}
		})
	}
}

// TestLogListener_RequestLost takes the request for announcements from a session that is
// healthy otherwise: rows come late then, and the request is made anew.
func TestLogListener_RequestLost(t *testing.T) {
	t.Parallel()
	url, pool, sink := newLog(t)
	proxy := pgtest.NewProxy(t, url)
	l := followLog(t, proxy.URL, pool, sink)
	untilAnnounced(t, l, pool)

	proxy.Inject(`DO 'BEGIN PERFORM pg_advisory_unlock_all(); END'`)
	held := `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	eventually(t, "the request is lost", func() bool {
		var n int
		if err := pool.QueryRow(t.Context(), held).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
	if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', 'orders', '7', '{}')`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the notification", func() bool { return slices.Contains(sink.all(), "notification orders 7") })
	untilAnnounced(t, l, pool)
	if n := l.Stats().Reconnects; n > 0 {
		t.Errorf("%d reconnects: the session was healthy", n)
	}
}

// TestLogListener_NothingToRead leaves the listen connection alone where canaries find
// nothing to read: the answer to a query would bring all notifications that wait there, in
// a rush a million, which would have to be kept meanwhile.
func TestLogListener_NothingToRead(t *testing.T) {
	t.Parallel()
	url, pool, sink := newLog(t)
	if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', 'orders', '1', '{}')`); err != nil {
		t.Fatal(err)
	}
	l := followLog(t, url, pool, sink)
	for range 2 {
		last := l.Stats().LastCanary
		eventually(t, "a canary", func() bool { return l.Stats().LastCanary.After(last) })
	}
	var query string
	if err := pool.QueryRow(t.Context(), `SELECT query FROM pg_stat_activity WHERE pid = $1`, l.Stats().BackendPID).Scan(&query); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(query, "notification_log") {
		t.Errorf("with nothing to read, the listen connection has executed %s", query)
	}
}

// TestLogListener_Refused starts a listener while a transaction that was not announced is
// about to commit: nothing would tell the listener of that, so it must look.
func TestLogListener_Refused(t *testing.T) {
	t.Parallel()
	url, pool, sink := newLog(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SET CONSTRAINTS ALL IMMEDIATE; SELECT attune_live.notify('c', 'orders', '7', '{}')`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	l := followLog(t, url, pool, sink)
	if !l.Stats().Log.Polling {
		t.Error("nobody looks")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the notification", func() bool { return slices.Contains(sink.all(), "notification orders 7") })
	eventually(t, "being told", func() bool { return !l.Stats().Log.Polling })
}

// TestLogListener_Loss has losses that their count alone does not tell at their place:
// counted and told before the commit, or not counted at all. Whoever is there is told
// all the same, and no cursor from before counts any more.
func TestLogListener_Loss(t *testing.T) {
	for name, test := range map[string]struct{ before, loss string }{
		"CountedBefore": {before: `SELECT nextval('attune_live.losses')`, loss: `NOTIFY attune_live, 'lost'`},
		"Uncounted":     {loss: `BEGIN; INSERT INTO orders VALUES (1); SET TRANSACTION READ ONLY; COMMIT`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, pool, sink := newLog(t)
			if _, err := pool.Exec(t.Context(), `CREATE TABLE orders (id int PRIMARY KEY)`); err != nil {
				t.Fatal(err)
			}
			if err := live.Watch(t.Context(), pool, "orders", live.WatchOptions{}); err != nil {
				t.Fatal(err)
			}
			log, err := pg.OpenLog(t.Context(), pool)
			if err != nil {
				t.Fatal(err)
			}
			l := followLog(t, url, pool, sink)
			lines := len(sink.all())
			if test.before != "" {
				if _, err := pool.Exec(t.Context(), test.before); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the count is told", func() bool { return l.Stats().Log.Losses == 1 })
				lines = len(sink.all())
			}
			before, err := log.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(t.Context(), test.loss, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the loss is told", func() bool {
				return slices.Equal(sink.since(lines), []string{"restart " + string(wire.GapSourceOverflow)})
			})
			after, err := log.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if before.Epoch() == after.Epoch() {
				t.Errorf("cursors are of the epoch %s as before", after.Epoch())
			}
		})
	}
}

// TestLogListener_Regressed takes the last rows from the log, as a crash does where
// commits are not synchronous. Their numbers are given anew, so no cursor may count.
func TestLogListener_Regressed(t *testing.T) {
	t.Parallel()
	url, pool, sink := newLog(t)
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	followLog(t, url, pool, sink)
	lines := len(sink.all())
	if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', 'orders', '1', '{}')`); err != nil {
		t.Fatal(err)
	}
	sink.await(t, lines, 1)
	before, err := log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `DELETE FROM attune_live.notification_log`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a gap", func() bool {
		return slices.Equal(sink.since(lines), []string{"notification orders 1", "restart " + string(wire.GapListenerReconnected)})
	})
	after, err := log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Epoch() == after.Epoch() {
		t.Errorf("cursors are of the epoch %s as before", after.Epoch())
	}
}
