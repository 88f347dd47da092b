// Command table measures what attune promises about speed and size, each figure
// beside the limit of the machine in the same round, and prints goal, figure, limit
// and ratio side by side: absolute figures drift with the machine, ratios hardly do.
//
// With -short it measures a few ratios that hold on a machine with other work to do,
// and fails when one is a quarter worse than recorded in ratios.json; -record writes
// them there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"attune/bench/measured"
)

// recorded is where the ratios of the short form are kept, in the repository.
const recorded = "bench/table/ratios.json"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	short := flag.Bool("short", false, "measure the recorded ratios only, and fail when one is a quarter worse")
	record := flag.Bool("record", false, "with -short: record what is measured")
	rounds := flag.Int("rounds", 3, "measurements of which the median counts")
	only := flag.String("only", "", "measure only works whose name contains this")
	flag.Parse()
	if err := run(ctx, *short, *record, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, short, record bool, rounds int, only string) (err error) {
	dir, err := measured.Dir("table")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, attune: filepath.Join(dir, "attune"), pushbench: filepath.Join(dir, "pushbench")}
	if err := errors.Join(measured.Build(ctx, ".", b.attune), measured.Build(ctx, "bench/pushbench", b.pushbench)); err != nil {
		return err
	}
	works := table()
	if short {
		works = gate()
	}
	var rows []row
	for _, w := range works {
		if !strings.Contains(w.name, only) {
			continue
		}
		measured, err := b.measure(ctx, w, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, measured...)
		fmt.Fprintf(os.Stderr, "%s: done\n", w.name)
	}
	switch {
	case record:
		return save(recorded, rows)
	case short:
		return b.compare(ctx, rows, rounds)
	}
	printTable(os.Stdout, rows)
	return nil
}
