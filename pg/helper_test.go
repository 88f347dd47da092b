package pg_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/wire"
)

// patience is how long a test waits for what must happen. It is not how long it
// takes: figures are measured where they matter.
const patience = 20 * time.Second

// recorder is a Sink that remembers what it was told, as one line for each call:
// "notification execution 42", "gap listener_reconnected", "mode live".
type recorder struct {
	mu    sync.Mutex
	lines []string
	news  chan struct{} // closed and replaced with every line
}

func newRecorder() *recorder { return &recorder{news: make(chan struct{})} }

func (r *recorder) Publish(ns ...wire.Notification) {
	for _, n := range ns {
		r.add("notification " + n.EntityType + " " + n.EntityID.String())
	}
}
func (r *recorder) Gap(reason wire.GapReason) { r.add("gap " + string(reason)) }
func (r *recorder) SetMode(mode wire.Mode)    { r.add("mode " + string(mode)) }

func (r *recorder) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	close(r.news)
	r.news = make(chan struct{})
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

// await waits until there are n lines more than skip, and returns those.
func (r *recorder) await(t *testing.T, skip, n int) []string {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		lines, news := append([]string(nil), r.lines...), r.news
		r.mu.Unlock()
		if len(lines) >= skip+n {
			return lines[skip:]
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("the sink was told %q: want %d lines after the first %d", lines, n, skip)
		}
	}
}

// connect opens a pool that is closed when t ends.
func connect(t *testing.T, url string, opts ...pg.ConnectOption) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Connect(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// start runs a listener until t ends, and returns when it is live.
func start(t *testing.T, cfg pg.ListenerConfig, sink pg.Sink) *pg.Listener {
	t.Helper()
	l, stop := run(t, cfg, sink)
	t.Cleanup(stop)
	select {
	case <-l.Live():
	case <-time.After(patience):
		t.Fatalf("not live: %s", l.Stats().Problem)
	}
	return l
}

// run runs a listener until stop is called, which fails t if Run returned an error.
func run(t *testing.T, cfg pg.ListenerConfig, sink pg.Sink) (l *pg.Listener, stop func()) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	l = pg.NewListener(cfg, sink)
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { err = l.Run(ctx) })
	return l, func() {
		t.Helper()
		cancel()
		wg.Wait()
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// notify commits one notification of the execution with that id.
func notify(t *testing.T, pool *pgxpool.Pool, id int) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "SELECT pg_notify($1, $2)", pgx.QueryExecModeExec, "execution_created", payload(id)); err != nil {
		t.Fatal(err)
	}
}

func payload(id int) string { return fmt.Sprintf(`{"entity_type":"execution","entity_id":%d}`, id) }

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// inDatabase returns rawURL with another database.
func inDatabase(t *testing.T, rawURL, name string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
