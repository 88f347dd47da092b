package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/attunetest"
	"attune/wire"
)

// process is a program that a test has started, mostly attune.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{} // closed when it has ended; from then on:
	ended          time.Time
}

// start starts attune with nothing in its environment but what it needs and env. It
// is ended with t.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return launch(t, env, attunetest.Binary(t), args...)
}

// launch starts any program so.
func launch(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=" + os.Getenv("GORACE")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.WaitDelay = 5 * time.Second // if a process that it leaves has its output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup waits for
		defer close(p.exited)
		err := p.cmd.Wait()
		p.ended = time.Now()
		if errors.Is(err, exec.ErrWaitDelay) {
			t.Errorf("%s has ended and left a process that has its output", p)
		}
	}()
	t.Cleanup(func() {
		if !p.running() {
			return
		}
		p.signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.exited
			t.Errorf("%s did not end after SIGTERM", p)
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\nstdout:\n%sstderr:\n%s", p, p.stdout, p.stderr)
		}
	})
	return p
}

func (p *process) String() string {
	return strings.Join(append([]string{filepath.Base(p.cmd.Path)}, p.cmd.Args[1:]...), " ")
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal; the process may have ended already.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code, -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(2 * patience):
		p.t.Fatalf("%s does not end", p)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the output contains text.
func (p *process) says(o *output, text string) {
	p.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		all, more := o.watch()
		if strings.Contains(all, text) {
			return
		}
		select {
		case <-more:
			continue
		case <-p.exited:
		case <-deadline.C:
		}
		if !strings.Contains(o.String(), text) {
			p.t.Fatalf("%s does not say %q", p, text)
		}
		return
	}
}

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed and replaced by every write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) watch() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

func (o *output) String() string {
	text, _ := o.watch()
	return text
}

// server is a process that serves.
type server struct {
	*process
	url string
}

// serve starts `attune serve` on a free port and returns when it listens.
func serve(t *testing.T, env ...string) *server {
	t.Helper()
	s := &server{process: start(t, append([]string{"ATTUNE_LISTEN_ADDR=127.0.0.1:0", "ATTUNE_DRAIN=300ms"}, env...), "serve")}
	s.says(s.stdout, "\n")
	s.url = strings.TrimPrefix(strings.TrimSpace(s.stdout.String()), "attune listens on ")
	if !regexp.MustCompile(`^http://127\.0\.0\.1:\d+$`).MatchString(s.url) {
		t.Fatalf("it printed %q", s.stdout)
	}
	return s
}

// serveWithRunner serves a database and runs actions on it.
func serveWithRunner(t *testing.T, database string, env ...string) *server {
	t.Helper()
	return serve(t, append([]string{"DATABASE_URL=" + database, "ATTUNE_RUNNER=true"}, env...)...)
}

// start starts a client command that talks to s.
func (s *server) start(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, []string{"ATTUNE_URL=" + s.url}, args...)
}

// attune runs a client command that talks to s, to its end.
func (s *server) attune(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return run(t, []string{"ATTUNE_URL=" + s.url}, args...)
}

// run runs attune to its end.
func run(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, env, args...)
	code = p.wait()
	return code, p.stdout.String(), p.stderr.String()
}

// execute starts an execution and returns its id.
func (s *server) execute(t *testing.T, action string, params ...string) (id string) {
	t.Helper()
	args := []string{"action", "execute", action, "-q"}
	for _, param := range params {
		args = append(args, "--param", param)
	}
	code, stdout, stderr := s.attune(t, args...)
	if code != 0 {
		t.Fatalf("execute %s: exit code %d: %s", action, code, stderr)
	}
	return strings.TrimSpace(stdout)
}

// get gets a path and returns the answer's status and body.
func (s *server) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp := s.do(t, http.MethodGet, path, "")
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// shell returns what runs a command line that is written for people, with attune in
// the path and env besides.
func shell(t *testing.T, line string, env ...string) *exec.Cmd {
	t.Helper()
	sh := exec.CommandContext(t.Context(), "sh", "-c", line)
	sh.Env = append([]string{"PATH=" + filepath.Dir(attunetest.Binary(t)) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=" + os.Getenv("GORACE")}, env...)
	return sh
}

// leaves waits until the server is on its way out: not ready, or not to be reached any
// more.
func (s *server) leaves(t *testing.T) {
	t.Helper()
	eventually(t, "the server is on its way out", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return true
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
}

// do makes a request on a connection of its own. The caller closes the body.
func (s *server) do(t *testing.T, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// execution reads an execution.
func (s *server) execution(t *testing.T, id string) wire.Execution {
	t.Helper()
	status, body := s.get(t, "/executions/"+id)
	if status != http.StatusOK {
		t.Fatalf("read execution %s: %d %s", id, status, body)
	}
	return decode[wire.Execution](t, body)
}

// reaches waits until an execution has a status, and returns it. Another terminal
// status fails t.
func (s *server) reaches(t *testing.T, id string, want wire.Status) wire.Execution {
	t.Helper()
	var x wire.Execution
	eventually(t, "execution "+id+" is "+string(want), func() bool {
		x = s.execution(t, id)
		if x.Status.Terminal() && x.Status != want {
			t.Fatalf("execution %s is %s with result %s, want %s", id, x.Status, x.Result, want)
		}
		return x.Status == want
	})
	return x
}

// decode decodes JSON.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// execSQL runs statements.
func execSQL(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// dialSilent opens a connection, sends a request and reads nothing until t reads it.
func dialSilent(t *testing.T, s *server, request string) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	return conn
}
