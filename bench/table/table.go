package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"attune/bench/measured"
)

// tolerance is how much worse than recorded a ratio may be.
const tolerance = 1.25

// row is a measure as it came out: medians of all rounds.
type row struct {
	work                 work
	measure              measure
	figure, limit, ratio float64
}

func (r row) name() string { return r.work.name + ": " + r.measure.name }

// met reports whether the goal is reached.
func (r row) met() bool {
	switch m := r.measure; {
	case m.ratio > 0:
		return (r.ratio >= m.ratio) == m.more
	case m.above > 0:
		return r.figure <= r.limit+m.above
	default:
		return (r.figure >= m.goal) == m.more
	}
}

// measure does w, and the limit after it, in each round.
func (b *bench) measure(ctx context.Context, w work, rounds int) (rows []row, err error) {
	figures, limits := make([]report, rounds), make([]report, rounds)
	var s *measured.Server
	stop := func() {
		if s != nil {
			err = errors.Join(err, s.Stop())
			s = nil
		}
	}
	defer stop()
	for i := range rounds {
		if s == nil {
			if s, err = measured.StartAttune(b.attune, filepath.Join(b.dir, "data")); err != nil {
				return nil, err
			}
		}
		if figures[i], err = b.load(ctx, s, strings.Fields(w.load)); err != nil {
			return nil, err
		}
		if limits[i], err = b.limit(ctx, s, strings.Fields(w.limit)); err != nil {
			return nil, err
		}
		if w.fresh {
			stop()
		}
	}
	for _, m := range w.measures {
		r := row{work: w, measure: m}
		f, l, q := make([]float64, rounds), make([]float64, rounds), make([]float64, rounds)
		for i := range rounds {
			f[i] = m.figure(figures[i]) / m.unit
			q[i] = f[i]
			if m.limit != nil {
				l[i] = m.limit(limits[i]) / m.unit
				q[i] = f[i] / l[i]
			}
		}
		r.figure, r.limit, r.ratio = median(f), median(l), median(q)
		rows = append(rows, r)
	}
	return rows, err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// printTable writes rows as a table of Markdown.
func printTable(out io.Writer, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| work\t| measure\t| goal\t| figure\t| limit\t| figure / limit\t| reached\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range rows {
		m, sign := r.measure, "≤"
		if m.more {
			sign = "≥"
		}
		goal := fmt.Sprintf("%s %v", sign, m.goal)
		switch {
		case m.ratio > 0 && m.goal > 0:
			goal = fmt.Sprintf("%s %v, or %.2f × limit", sign, m.goal, m.ratio)
		case m.ratio > 0:
			goal = fmt.Sprintf("%s %.2f × limit", sign, m.ratio)
		case m.above > 0:
			goal = fmt.Sprintf("%s limit + %.2f", sign, m.above)
		}
		limit, ratio, reached := "", "", "no"
		if m.limit != nil {
			limit, ratio = fmt.Sprintf("%.4g", r.limit), fmt.Sprintf("%.2f", r.ratio)
		}
		if r.met() {
			reached = "yes"
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %.4g\t| %s\t| %s\t| %s\t|\n", r.work.name, m.name, goal, r.figure, limit, ratio, reached)
	}
	_ = w.Flush()
}

// save records the ratios.
func save(path string, rows []row) error {
	ratios := make(map[string]float64, len(rows))
	for _, r := range rows {
		ratios[r.name()] = r.ratio
	}
	b, err := json.MarshalIndent(ratios, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644) //nolint:gosec // a file of the repository
}

// compare fails when a ratio is worse than recorded, twice.
func (b *bench) compare(ctx context.Context, rows []row, rounds int) error {
	text, err := os.ReadFile(recorded)
	if err != nil {
		return err
	}
	var ratios map[string]float64
	if err := json.Unmarshal(text, &ratios); err != nil {
		return fmt.Errorf("%s: %w", recorded, err)
	}
	var errs []error
	for _, r := range rows {
		want, ok := ratios[r.name()]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: not in %s: record it with -short -record", r.name(), recorded))
			continue
		}
		if r.ratio > want*tolerance { // somebody else may have been at work on the machine
			again, err := b.measure(ctx, r.work, rounds)
			if err != nil {
				return err
			}
			r.ratio = min(r.ratio, again[0].ratio) // works of the gate have one measure each
		}
		fmt.Fprintf(os.Stdout, "%-40s %.3g, recorded %.3g: %+.0f %%\n", r.name(), r.ratio, want, (r.ratio/want-1)*100)
		if r.ratio > want*tolerance {
			errs = append(errs, fmt.Errorf("%s: %.3g, recorded %.3g", r.name(), r.ratio, want))
		}
	}
	return errors.Join(errs...)
}
