// Command polling measures GET /executions/{id} where the row does not change, and long
// polls where it does, beside what bounds them on the same machine in the same run.
//
//	bench/polling/run             the figures of docs/benchmarks.md
//	bench/polling/run -rounds 1   a quick look
//
// It builds and starts a server with a PostgreSQL of its own. Three loads take turns,
// each from as many keep-alive connections: the server's row; the same bytes from a
// static handler behind the same router, in a process of its own; and the same row by
// SELECT, without HTTP. Figures are medians of the rounds, ratios are of one round.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"attune/bench/measured"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "polling:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	connections, rounds, waiters int
	turn                         time.Duration
	static                       string
}

func run(ctx context.Context, args []string) (err error) {
	var cfg config
	flags := flag.NewFlagSet("polling", flag.ContinueOnError)
	flags.IntVar(&cfg.connections, "connections", 64, "keep-alive connections")
	flags.IntVar(&cfg.rounds, "rounds", 5, "rounds")
	flags.IntVar(&cfg.waiters, "waiters", 5000, "long polls on one execution")
	flags.DurationVar(&cfg.turn, "turn", 2*time.Second, "how long each load has in a round")
	flags.StringVar(&cfg.static, "static", "", "serve this text and nothing else (the program starts itself so)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.connections < 1 || cfg.rounds < 1 || cfg.waiters < 1 || cfg.turn <= 0 {
		return errors.New("-connections, -rounds, -waiters and -turn must be more than 0")
	}
	if cfg.static != "" {
		return serveStatic(ctx, cfg.static)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	dir, err := measured.Dir("polling")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "attune")
	if err := measured.Build(ctx, ".", binary); err != nil {
		return err
	}
	attune, err := measured.StartAttune(binary, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, attune.Stop()) }()
	pool, err := pgxpool.New(ctx, attune.Database+"?pool_max_conns=16")
	if err != nil {
		return fmt.Errorf("connect to the server's database: %w", err)
	}
	defer pool.Close()
	id, err := insert(ctx, pool)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/executions/%d", id)
	body, err := get(ctx, attune.URL()+path)
	if err != nil {
		return err
	}
	static, err := startStatic(ctx, body)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, static.Stop()) }()
	fmt.Printf("GET %s, %d bytes, %d keep-alive connections\n", path, len(body), cfg.connections)
	if err := poll(ctx, cfg, attune, static, pool, id); err != nil {
		return err
	}
	return wait(ctx, cfg, attune, static, pool)
}

// poll prints how often a row that does not change is answered.
func poll(ctx context.Context, cfg config, attune, static *measured.Server, pool *pgxpool.Pool, id int64) error {
	path := fmt.Sprintf("/executions/%d", id)
	var rates [3][]float64
	var ofStatic, ofSelect []float64
	for range cfg.rounds {
		loads := []func() (float64, error){
			func() (float64, error) { return requests(ctx, static.Address, path, "", cfg.connections, cfg.turn) },
			func() (float64, error) { return requests(ctx, attune.Address, path, "", cfg.connections, cfg.turn) },
			func() (float64, error) { return selects(ctx, pool, id, cfg.connections, cfg.turn) },
		}
		for i, load := range loads {
			rate, err := load()
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
		last := len(rates[0]) - 1
		ofStatic = append(ofStatic, rates[1][last]/rates[0][last])
		ofSelect = append(ofSelect, rates[1][last]/rates[2][last])
	}
	for i, what := range []string{"static handler", "attune", "SELECT by key"} {
		fmt.Printf("  %-16s %8.0f /s\n", what, median(rates[i]))
	}
	fmt.Printf("  attune is %.2f of the static handler (goal 0.7), %.1f of SELECT\n", median(ofStatic), median(ofSelect))
	return nil
}

// wait prints how long many long polls take to be answered once the row has changed,
// and how often it was read for them.
func wait(ctx context.Context, cfg config, attune, static *measured.Server, pool *pgxpool.Pool) error {
	var took, limit, ratios, reads []float64
	for range cfg.rounds {
		id, err := insert(ctx, pool)
		if err != nil {
			return err
		}
		path := fmt.Sprintf("/executions/%d", id)
		atOnce, err := waiters(ctx, static.Address, path, cfg.waiters, func() error { return nil }, func() error {
			_, err := get(ctx, static.URL()+"/release")
			return err
		})
		if err != nil {
			return err
		}
		var before int64
		last, err := waiters(ctx, attune.Address, path, cfg.waiters, func() (err error) {
			before, err = scans(ctx, pool)
			return err
		}, func() error {
			_, err := pool.Exec(ctx, `UPDATE attune.execution SET status = 'completed' WHERE id = $1`, id)
			return err
		})
		if err != nil {
			return err
		}
		after, err := scans(ctx, pool)
		if err != nil {
			return err
		}
		took, limit = append(took, milliseconds(last)), append(limit, milliseconds(atOnce))
		ratios = append(ratios, last.Seconds()/atOnce.Seconds())
		reads = append(reads, float64(after-before-1)) // our own update has looked for it too
	}
	fmt.Printf("%d long polls on one execution\n", cfg.waiters)
	fmt.Printf("  static handler   last answer %4.0f ms after the release\n", median(limit))
	fmt.Printf("  attune           last answer %4.0f ms after the commit (goal 100), %.1f of the static handler, %.0f queries (goal 1)\n",
		median(took), median(ratios), median(reads))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// insert makes an execution that nobody works on.
func insert(ctx context.Context, pool *pgxpool.Pool) (id int64, err error) {
	err = pool.QueryRow(ctx, `INSERT INTO attune.execution (action_ref, config, status)
		VALUES ('bench.poll', '{"message": "Hello!"}', 'running') RETURNING id`).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("insert an execution: %w", err)
	}
	return id, nil
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	return readAll(resp)
}
