package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
)

// process is a server that was started to be measured.
type process struct {
	cmd      *exec.Cmd
	address  string // host:port
	database string // its URL
	dir      string // what is left of it
}

// startAttune builds the server and starts it on a PostgreSQL of its own.
func startAttune(ctx context.Context) (*process, error) {
	dir, err := os.MkdirTemp("", "polling-")
	if err != nil {
		return nil, err
	}
	binary, data := filepath.Join(dir, "attune"), filepath.Join(dir, "data")
	//nolint:gosec // into a directory that was just made
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build attune: %w\n%s", err, out)
	}
	// Where PostgreSQL may not run as root, another user must be able to come here.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nothing secret is in it
		return nil, err
	}
	cmd := exec.Command(binary, "serve") //nolint:gosec,noctx // built above; it is asked to stop, not killed
	cmd.Env = append(os.Environ(), "ATTUNE_LISTEN_ADDR=127.0.0.1:0", "ATTUNE_DATA_DIR="+data, "ATTUNE_LOG_LEVEL=warn", "ATTUNE_DRAIN=1s")
	p, err := start(cmd, "listens on http://")
	if err != nil {
		return nil, err
	}
	p.dir = dir
	password, errPassword := os.ReadFile(filepath.Join(data, "password"))
	port, errPort := os.ReadFile(filepath.Join(data, "port"))
	if err := errors.Join(errPassword, errPort); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.database = fmt.Sprintf("postgres://attune:%s@127.0.0.1:%s/attune?pool_max_conns=16",
		strings.TrimSpace(string(password)), strings.TrimSpace(string(port)))
	return p, nil
}

// startStatic starts this program to serve a text.
func startStatic(ctx context.Context, text string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	//nolint:gosec // itself
	return start(exec.CommandContext(ctx, program, "-static", text), "listens on http://")
}

// start starts a server and waits until it says where it listens.
func start(cmd *exec.Cmd, says string) (*process, error) {
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, address, ok := strings.Cut(lines.Text(), says); ok {
			p.address = address
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s has not said where it listens", cmd.Path), p.stop())
}

// stop ends the process and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	err := p.cmd.Wait()
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

// serveStatic answers every request with a text, through the router that attune uses:
// at once, or, where the request has a wait, when /release is asked for. /stats counts
// those that wait as attune does.
func serveStatic(ctx context.Context, text string) error {
	var held atomic.Int64
	release := make(chan struct{})
	answer := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}
	r := chi.NewRouter()
	r.Get("/executions/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			held.Add(1)
			<-release
		}
		answer(w)
	})
	r.Get("/stats", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"longpoll":%d}`, held.Load())
	})
	r.Get("/release", func(w http.ResponseWriter, _ *http.Request) {
		held.Store(0)
		close(release)
		release = make(chan struct{}) // nobody asks while it is released
		answer(w)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	fmt.Println("listens on http://" + ln.Addr().String())
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
