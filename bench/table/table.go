package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"attune/bench/measured"
	"attune/bench/ratios"
)

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

// measured is r as it is compared with what is recorded.
func (r row) measured() ratios.Measured {
	m := ratios.Measured{Name: r.name(), Ratio: r.ratio, Of: fmt.Sprintf("%.3g", r.ratio)}
	if r.measure.limit != nil {
		m.Of = fmt.Sprintf("%.3g, limit %.3g, ratio %.3g", r.figure, r.limit, r.ratio)
	}
	return m
}

// measure does w, and its limit, in each round.
func (b *bench) measure(ctx context.Context, w work, rounds int) (rows []row, err error) {
	if w.rounds > 0 {
		rounds = w.rounds
	}
	figures, limits := make([]report, rounds), make([]report, rounds)
	env := b.env
	if w.tls {
		certificate, err := measured.Certificate(b.dir)
		if err != nil {
			return nil, err
		}
		env = append(slices.Clip(env), certificate...)
	}
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
			if s, err = measured.StartAttune(b.attune, filepath.Join(b.dir, "data"), env...); err != nil {
				return nil, err
			}
		}
		if figures[i], limits[i], err = b.round(ctx, s, w); err != nil {
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

// round does w once, and its limit after it or at the same time.
func (b *bench) round(ctx context.Context, s *measured.Server, w work) (figure, limit report, err error) {
	g, ctx := errgroup.WithContext(ctx)
	if !w.together {
		g.SetLimit(1)
	}
	g.Go(func() (err error) {
		do := b.load
		if w.bare {
			do = b.limit
		}
		figure, err = do(ctx, s, strings.Fields(w.load))
		return err
	})
	g.Go(func() (err error) {
		limit, err = b.limit(ctx, s, strings.Fields(w.limit))
		return err
	})
	return figure, limit, g.Wait()
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
		if !m.wanted() {
			goal, reached = "", ""
		}
		if m.limit != nil {
			limit, ratio = fmt.Sprintf("%.4g", r.limit), fmt.Sprintf("%.2f", r.ratio)
		}
		if m.wanted() && r.met() {
			reached = "yes"
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %.4g\t| %s\t| %s\t| %s\t|\n", r.work.name, m.name, goal, r.figure, limit, ratio, reached)
	}
	_ = w.Flush()
}
