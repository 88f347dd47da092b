package runner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/broadcast"
	"attune/pg"
	"attune/pg/pgtest"
	"attune/runner"
	"attune/wire"
)

// workerEnv has this binary be a process that only runs a Runner, on the database of
// that URL.
const workerEnv = "RUNNER_TEST_WORKER"

func TestMain(m *testing.M) {
	if url := os.Getenv(workerEnv); url != "" {
		os.Exit(work(url))
	}
	os.Exit(pgtest.Main(m, pgtest.WithTemplate(func(ctx context.Context, url string) error {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		defer pool.Close()
		return errors.Join(pg.Migrate(ctx, pool, "attune"), runner.Migrate(ctx, pool))
	})))
}

// reapInterval is short here, so that what takes two looks is tested soon.
const reapInterval = 300 * time.Millisecond

// work runs a Runner until SIGTERM.
func work(url string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, url)
	if err == nil {
		defer pool.Close()
		var r *runner.Runner
		if r, err = newRunner(ctx, pool, func(*runner.Config) {}); err == nil {
			err = runListening(ctx, url, pool, r)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func newRunner(ctx context.Context, pool *pgxpool.Pool, change func(*runner.Config)) (*runner.Runner, error) {
	store, err := pg.OpenExecutions(ctx, pool, "attune")
	if err != nil {
		return nil, err
	}
	cfg := runner.Config{
		Pool: pool, Store: store, Workers: 8, DrainTimeout: 200 * time.Millisecond, ReapInterval: reapInterval,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	change(&cfg)
	return runner.New(cfg)
}

// runListening runs r, with a listener that hears for it, until ctx is done.
func runListening(ctx context.Context, url string, pool *pgxpool.Pool, r *runner.Runner) error {
	hub := broadcast.New(broadcast.Options{QueueSize: 1, WindowSize: 1})
	listener := pg.NewListener(pg.ListenerConfig{URL: url, Pool: pool, Channels: []string{"unused"}, Controls: []pg.Control{r}}, hub)
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return listener.Run(listening) })
	group.Go(func() error {
		defer stop()
		return r.Run(ctx)
	})
	return group.Wait()
}

// bench is a migrated database and what the tests look at it with.
type bench struct {
	t     *testing.T
	url   string
	pool  *pgxpool.Pool
	store *pg.Executions
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, url: pgtest.Database(t)}
	var err error
	if b.pool, err = pgxpool.New(t.Context(), b.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.pool.Close)
	if b.store, err = pg.OpenExecutions(t.Context(), b.pool, "attune"); err != nil {
		t.Fatal(err)
	}
	return b
}

// idle returns a Runner that is not run: it creates and cancels only.
func (b *bench) idle(change ...func(*runner.Config)) *runner.Runner {
	b.t.Helper()
	r, err := newRunner(b.t.Context(), b.pool, func(cfg *runner.Config) {
		for _, c := range change {
			c(cfg)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// run returns a Runner that runs until stop is called, or the test ends.
func (b *bench) run(change ...func(*runner.Config)) (r *runner.Runner, stop func()) {
	b.t.Helper()
	r = b.idle(change...)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan error, 1)
	go func() { done <- runListening(ctx, b.url, b.pool, r) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			b.t.Error("the runner does not stop")
		}
	}
	b.t.Cleanup(stop)
	return r, stop
}

// process starts a process with a Runner of its own.
func (b *bench) process() *exec.Cmd {
	b.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.t.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+b.url)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// kill ends a process the hard way.
func (b *bench) kill(cmd *exec.Cmd) {
	b.t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	_ = cmd.Wait() // it says "killed"
}

func (b *bench) create(r *runner.Runner, action, parameters string) wire.Execution {
	b.t.Helper()
	x, err := r.Create(b.t.Context(), request(action, parameters))
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

func request(action, parameters string) wire.ExecutionRequest {
	req := wire.ExecutionRequest{ActionRef: action}
	if parameters != "" {
		req.Parameters = []byte(parameters)
	}
	return req
}

func (b *bench) get(id int64) wire.Execution {
	b.t.Helper()
	x, err := b.store.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// until reads until ok.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			b.t.Fatalf("never: %s", what)
		case <-ticker.C:
		}
	}
}

// reaches waits for a status.
func (b *bench) reaches(id int64, status wire.Status) wire.Execution {
	b.t.Helper()
	var x wire.Execution
	b.until(fmt.Sprintf("execution %d is %s", id, status), func() bool {
		x = b.get(id)
		if x.Status.Terminal() && x.Status != status {
			b.t.Fatalf("execution %d is %s with result %s, want %s", id, x.Status, x.Result, status)
		}
		return x.Status == status
	})
	return x
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) count(sql string) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), sql).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// wantCode returns the message of an error with that code.
func wantCode(t *testing.T, err error, code wire.Code) (message string) {
	t.Helper()
	e, ok := errors.AsType[*wire.Error](err)
	if !ok || e.Code != code {
		t.Fatalf("got error %v, want code %s", err, code)
	}
	return e.Message
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
