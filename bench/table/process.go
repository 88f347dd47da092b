package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"attune/bench/measured"
)

// bench is what is measured, and with what.
type bench struct {
	dir, attune, pushbench string
	env                    []string // added to the environment of all of them
}

// report is what of pushbench's reports is of interest here, of its runs and its
// limits.
type report struct {
	Lost        int64   `json:"lost"`
	PerSecond   float64 `json:"deliveries_per_s"`
	CPU         float64 `json:"server_cpu_s_per_million"`
	P50         float64 `json:"latency_p50_us"`
	P99         float64 `json:"latency_p99_us"`
	RSS         float64 `json:"rss_per_connection_bytes"`
	LimitPerSec float64 `json:"per_s"`
	LimitCPU    float64 `json:"cpu_s_per_million"`
}

// load runs pushbench against s.
func (b *bench) load(ctx context.Context, s *measured.Server, args []string) (report, error) {
	r, err := b.pushbenchReport(ctx, append([]string{
		"-json", "-url", s.URL(), "-db", s.Database, "-pid", strconv.Itoa(s.PID()),
	}, args...))
	if err == nil && r.Lost > 0 {
		err = fmt.Errorf("%d deliveries lost", r.Lost)
	}
	return r, err
}

// limit runs one of pushbench's limits, those of PostgreSQL where they wake nobody else.
func (b *bench) limit(ctx context.Context, s *measured.Server, args []string) (report, error) {
	if len(args) == 0 {
		return report{}, nil
	}
	if args[0] != "fanout" {
		args = append(args[:1:1], append([]string{"-db", s.Unheard}, args[1:]...)...)
	}
	return b.pushbenchReport(ctx, append([]string{"limit"}, args...))
}

func (b *bench) pushbenchReport(ctx context.Context, args []string) (r report, err error) {
	cmd := exec.CommandContext(ctx, b.pushbench, args...) //nolint:gosec // built by us
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), b.env...)
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("pushbench %s: %w", strings.Join(args, " "), err)
	}
	begin := bytes.IndexByte(out, '{') // limits say something for people first
	if begin < 0 {
		return r, fmt.Errorf("pushbench %s: no report in %q", strings.Join(args, " "), out)
	}
	if err := json.NewDecoder(bytes.NewReader(out[begin:])).Decode(&r); err != nil {
		return r, fmt.Errorf("pushbench %s: %w", strings.Join(args, " "), err)
	}
	return r, nil
}
