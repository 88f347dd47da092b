package faults_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"attune/attunetest"
	"attune/faults"
)

// results are what the scenarios found, printed at the end.
//
//nolint:gochecknoglobals // one for all tests is the point
var results resultTable

type resultTable struct {
	mu   sync.Mutex
	rows []result
}

// result is a row of the table.
type result struct {
	scenario, source string
	faults           int
	report           faults.Report
	note             string
}

// add adds a row, or its figures to those of the same scenario.
func (r *resultTable) add(row result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rows {
		if known := &r.rows[i]; known.scenario == row.scenario && known.source == row.source {
			known.sum(row)
			return
		}
	}
	r.rows = append(r.rows, row)
}

func (r *result) sum(row result) {
	r.faults += row.faults
	r.report.Commits += row.report.Commits
	r.report.Connections += row.report.Connections
	r.report.Delivered += row.report.Delivered
	r.report.Gaps += row.report.Gaps
	r.report.Excused += row.report.Excused
	r.report.Violations = append(r.report.Violations, row.report.Violations...)
}

// print writes the table as Markdown.
func (r *resultTable) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return
	}
	slices.SortStableFunc(r.rows, func(a, b result) int { return strings.Compare(a.scenario+a.source, b.scenario+b.source) })
	fmt.Fprintf(w, "\nseed %d, race detector %t\n\n", *seed, attunetest.RaceEnabled())
	fmt.Fprintln(w, "| scenario | source | faults | committed | connections | deliveries checked | gaps told | excused by gaps | violations | |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|--:|---|")
	var sum result
	for _, row := range r.rows {
		line(w, row)
		sum.sum(row)
	}
	sum.scenario = "all"
	line(w, sum)
}

func line(w io.Writer, row result) {
	fmt.Fprintf(w, "| %s | %s | %d | %d | %d | %d | %d | %d | %d | %s |\n", row.scenario, row.source, row.faults,
		row.report.Commits, row.report.Connections, row.report.Delivered, row.report.Gaps, row.report.Excused,
		len(row.report.Violations), row.note)
}
