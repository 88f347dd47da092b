package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// bench is what is measured, and with what.
type bench struct{ dir, attune, pushbench string }

// build builds the command of a module's package.
func build(ctx context.Context, module, binary, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, pkg) //nolint:gosec // into a directory of ours
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", module, err, out)
	}
	return nil
}

// server is an attune with a PostgreSQL of its own.
type server struct {
	cmd           *exec.Cmd
	url, database string
}

// start starts a server and waits until it is ready.
func (b *bench) start() (*server, error) {
	data := filepath.Join(b.dir, "data")
	s := &server{cmd: exec.Command(b.attune, "serve")} //nolint:gosec,noctx // built by us; it is asked to stop, not killed
	s.cmd.Env = append(os.Environ(), "ATTUNE_LISTEN_ADDR=127.0.0.1:0", "ATTUNE_DATA_DIR="+data, "ATTUNE_LOG_LEVEL=warn", "ATTUNE_DRAIN=1s")
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for s.url == "" && lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "listens on "); ok {
			s.url = url
		}
	}
	if s.url == "" {
		return nil, fmt.Errorf("start attune: %w", errors.Join(lines.Err(), s.cmd.Wait()))
	}
	password, errPassword := os.ReadFile(filepath.Join(data, "password"))
	port, errPort := os.ReadFile(filepath.Join(data, "port"))
	if err := errors.Join(errPassword, errPort); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.database = fmt.Sprintf("postgres://attune:%s@127.0.0.1:%s/attune", bytes.TrimSpace(password), bytes.TrimSpace(port))
	return s, nil
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
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
func (b *bench) load(ctx context.Context, s *server, args []string) (report, error) {
	r, err := b.pushbenchReport(ctx, append([]string{
		"-json", "-url", s.url, "-db", s.database, "-pid", strconv.Itoa(s.cmd.Process.Pid),
	}, args...))
	if err == nil && r.Lost > 0 {
		err = fmt.Errorf("%d deliveries lost", r.Lost)
	}
	return r, err
}

// limit runs one of pushbench's limits.
func (b *bench) limit(ctx context.Context, s *server, args []string) (report, error) {
	if len(args) == 0 {
		return report{}, nil
	}
	if args[0] == "notify" {
		args = append(args[:1:1], append([]string{"-db", s.database}, args[1:]...)...)
	}
	return b.pushbenchReport(ctx, append([]string{"limit"}, args...))
}

func (b *bench) pushbenchReport(ctx context.Context, args []string) (r report, err error) {
	cmd := exec.CommandContext(ctx, b.pushbench, args...) //nolint:gosec // built by us
	cmd.Stderr = os.Stderr
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
