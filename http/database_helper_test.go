package http_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/broadcast"
	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/runner"
	"attune/wire"
)

// stack is a server on a database of its own: rows change, the listener hears of it,
// clients are told.
type stack struct {
	*server
	pool  *pgxpool.Pool
	reads *readCounter
}

// readCounter counts how often executions were read by id, each read when it has ended. It
// traces the pool of the server; the tests' own statements do not look like that.
type readCounter struct{ n atomic.Int64 }

// counts is the key of what marks the context of a query that counts.
type counts struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (r *readCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "SELECT id, action_ref") && (strings.HasSuffix(data.SQL, "WHERE id = $1") || strings.HasSuffix(data.SQL, "WHERE id = ANY($1)")) {
		return context.WithValue(ctx, counts{}, true)
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (r *readCounter) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(counts{}) != nil {
		r.n.Add(1)
	}
}

// startStack runs a stack until t ends. Without a runner it is read-only.
func startStack(tb testing.TB, withRunner bool, changes ...func(*setup)) *stack {
	tb.Helper()
	url := pgtest.Database(tb)
	k := &stack{reads: new(readCounter)}
	var err error
	k.pool, err = pg.Connect(tb.Context(), url, func(cfg *pgxpool.Config) { cfg.ConnConfig.Tracer, cfg.MaxConns = k.reads, 8 })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.pool.Close)
	executions, err := pg.OpenExecutions(tb.Context(), k.pool, "attune")
	if err != nil {
		tb.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	log, err := pg.OpenLog(tb.Context(), k.pool)
	if err != nil {
		tb.Fatal(err)
	}
	hub := broadcast.New(broadcast.Options{QueueSize: 1024, WindowSize: 1024, Backlog: log})
	listen := pg.ListenerConfig{URL: url, Pool: k.pool}
	var actions *runner.Runner
	if withRunner {
		actions, err = runner.New(runner.Config{
			Pool: k.pool, Store: executions, Workers: 4, DrainTimeout: time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			tb.Fatal(err)
		}
		listen.Controls = []pg.Control{actions}
	}
	listener := pg.NewLogListener(listen, log, hub)
	run := func(what string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				tb.Errorf("%s: %v", what, err)
			}
		})
	}
	run("listener", listener.Run)
	select {
	case <-listener.Live():
	case <-time.After(patience):
		tb.Fatalf("not live: %s", listener.Stats().Problem)
	}

	changes = append([]func(*setup){func(cfg *setup) { cfg.Hub, cfg.Executions = hub, executions }}, changes...)
	if withRunner {
		run("runner", actions.Run)
		changes = append(changes, func(cfg *setup) { cfg.Actions = actions })
	}
	k.server = start(tb, changes...)
	return k
}

// in returns k for a subtest.
func (k *stack) in(t *testing.T) *stack {
	t.Helper()
	sub := *k
	sub.server = k.server.in(t)
	return &sub
}

// exec executes a statement.
func (k *stack) exec(sql string, args ...any) {
	k.t.Helper()
	if _, err := k.pool.Exec(k.t.Context(), sql, args...); err != nil {
		k.t.Fatal(err)
	}
}

// insert inserts an execution, as a platform would, and returns its id once the
// server has heard of it.
func (k *stack) insert(status wire.Status) (id int64) {
	k.t.Helper()
	before := k.hub.Cursor()
	err := k.pool.QueryRow(k.t.Context(),
		`INSERT INTO attune.execution (action_ref, config, env_vars, status) VALUES ('core.echo', '{"message": "hi"}', '{"SECRET": "x"}', $1) RETURNING id`,
		string(status)).Scan(&id)
	if err != nil {
		k.t.Fatal(err)
	}
	eventually(k.t, "the notification", func() bool { return k.hub.Cursor() != before })
	return id
}

// update sets an execution's status.
func (k *stack) update(id int64, status wire.Status) {
	k.t.Helper()
	k.exec(`UPDATE attune.execution SET status = $2, updated = now() WHERE id = $1`, id, string(status))
}

// failSilently has an execution fail, and no trigger says so.
func (k *stack) failSilently(id int64) {
	k.t.Helper()
	err := pgx.BeginFunc(k.t.Context(), k.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(k.t.Context(), `SET LOCAL session_replication_role = replica`)
		if err == nil {
			_, err = tx.Exec(k.t.Context(), `UPDATE attune.execution SET status = $2 WHERE id = $1`, id, string(wire.StatusFailed))
		}
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
}

func path(id int64) string { return fmt.Sprintf("/executions/%d", id) }

// watchedTables makes tables in a database of their own, watches them, and returns
// what leads there.
func watchedTables(t *testing.T, sql string, tables map[string]live.WatchOptions) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	for table, o := range tables {
		if err := live.Watch(t.Context(), pool, table, o); err != nil {
			t.Fatal(err)
		}
	}
	return pool
}
