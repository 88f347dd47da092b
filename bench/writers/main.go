// Command writers measures what being told of costs those who write: commits a
// second of one-row updates, without a trigger, with a trigger that calls pg_notify,
// and with a table that is watched (package live).
//
//	bench/writers/run                     the figures of docs/benchmarks.md
//	bench/writers/run -rounds 1           a quick look
//	bench/writers/run -url postgres://…   on a server of yours, in a schema bench_writers
//
// Each variant has a pgbench of its own. They take turns of a fifth of a second, the
// others being stopped meanwhile, so that whatever else the machine does hits all
// alike. A session LISTENs throughout and counts what arrives: a variant that loses
// is no result. It leaves the schemas bench_writers and attune_live behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/pg/local"
)

func main() {
	// pg/local starts this program once more, to keep the server.
	if code, keeper := local.Main(); keeper {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "writers:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	url                 string
	rounds, turns, rows int
	turn                time.Duration
	clients             []int
	pgbench             string
}

func run(ctx context.Context, args []string) (err error) {
	cfg, err := parse(args)
	if err != nil {
		return err
	}
	if cfg.url == "" {
		dir, err := os.MkdirTemp("", "writers-")
		if err != nil {
			return err
		}
		server, err := local.Start(ctx, local.Config{
			DataDir: dir, Temporary: true,
			Settings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"},
		})
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, server.Stop(ctx))
		}()
		cfg.url = server.URL()
	}
	return cfg.measure(ctx)
}

func parse(args []string) (cfg config, err error) {
	flags := flag.NewFlagSet("writers", flag.ContinueOnError)
	flags.StringVar(&cfg.url, "url", "", "a server to measure on; without it, one is started")
	flags.IntVar(&cfg.rounds, "rounds", 9, "rounds, of which the median counts")
	flags.IntVar(&cfg.turns, "turns", 25, "turns of each variant in a round")
	flags.DurationVar(&cfg.turn, "turn", 200*time.Millisecond, "length of a turn")
	flags.IntVar(&cfg.rows, "rows", 100_000, "rows of each table")
	flags.StringVar(&cfg.pgbench, "pgbench", "", "the program; by default that of PATH or /usr/lib/postgresql")
	clients := flags.String("clients", "1,16", "numbers of clients, with commas between")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	for field := range strings.SplitSeq(*clients, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return cfg, fmt.Errorf("-clients %q: want numbers above 0 with commas between", *clients)
		}
		cfg.clients = append(cfg.clients, n)
	}
	if cfg.pgbench == "" {
		cfg.pgbench, err = findPgbench()
	}
	return cfg, err
}

func findPgbench() (string, error) {
	if path, err := exec.LookPath("pgbench"); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err != nil || len(found) == 0 {
		return "", errors.New("pgbench is neither in PATH nor in /usr/lib/postgresql/*/bin: install it, or name it with -pgbench")
	}
	return found[len(found)-1], nil
}

// measure runs the rounds and prints a table for each number of clients.
func (cfg config) measure(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, cfg.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := setUp(ctx, conn, cfg.rows); err != nil {
		return err
	}
	var version string
	if err := conn.QueryRow(ctx, `SHOW server_version`).Scan(&version); err != nil {
		return err
	}
	fmt.Printf("PostgreSQL %s, %d rows, %d rounds of %d turns of %s\n", version, cfg.rows, cfg.rounds, cfg.turns, cfg.turn)
	for _, clients := range cfg.clients {
		results := map[string][]float64{}
		for range cfg.rounds {
			if err := cfg.round(ctx, conn, clients, results); err != nil {
				return fmt.Errorf("%d clients: %w", clients, err)
			}
		}
		report(clients, results)
	}
	return nil
}

// print prints the medians, and those of the ratios within a round.
func report(clients int, results map[string][]float64) {
	fmt.Printf("\n%d clients\n\n| variant | commits a second | beside pg_notify |\n|---|---|---|\n", clients)
	for _, v := range variants() {
		ratios := make([]float64, len(results[v.name]))
		for i, tps := range results[v.name] {
			ratios[i] = tps / results["notify"][i]
		}
		fmt.Printf("| %s | %.0f | %.2f |\n", v.title, median(results[v.name]), median(ratios))
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}
