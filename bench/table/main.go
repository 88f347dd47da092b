// Command table measures what attune promises about speed and size, each figure
// beside the limit of the machine in the same round, and prints goal, figure, limit
// and ratio side by side: absolute figures drift with the machine, ratios hardly do.
//
// With -short it measures a few ratios that hold on other machines and beside other
// work, and fails when one is a quarter worse than recorded in ratios.json; -record
// writes them there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"attune/bench/measured"
	"attune/bench/ratios"
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
	if record && (!short || only != "") {
		return errors.New("-record goes with -short, and without -only: all is recorded at once")
	}
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
		works, b.env = gate(), oneCore()
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
	if !short {
		printTable(os.Stdout, rows)
		return nil
	}
	return b.judge(ctx, rows, record, only)
}

// judge records the rows, or compares them with those that are recorded.
func (b *bench) judge(ctx context.Context, rows []row, record bool, only string) error {
	list := make([]ratios.Measured, len(rows))
	for i, r := range rows {
		list[i] = r.measured()
	}
	if record {
		return ratios.Record(recorded, list)
	}
	want, err := ratios.Read(recorded)
	if err != nil {
		return err
	}
	maps.DeleteFunc(want, func(name string, _ float64) bool { return !strings.Contains(name, only) })
	return want.Compare(os.Stdout, list, func(name string) (ratios.Measured, error) {
		i := slices.IndexFunc(rows, func(r row) bool { return r.name() == name })
		again, err := b.measure(ctx, rows[i].work, 1)
		if err != nil {
			return ratios.Measured{}, err
		}
		return again[0].measured(), nil // works of the gate have one measure each
	})
}
