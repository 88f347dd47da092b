package main_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/attunetest"
	"attune/wire"
)

// What a newcomer does first, on a machine where nothing was done before.
func TestServe_Newcomer(t *testing.T) {
	t.Parallel()
	s := serve(t, "ATTUNE_DATA_DIR="+dataDir(t))
	stream := events(t, s, "?filter=entity_type:execution")
	stream.next(t, "welcome")

	code, stdout, stderr := s.attune(t, "action", "execute", "core.echo", "--param", "message=Hello!", "--wait")
	if code != 0 || stdout != `{"message":"Hello!"}`+"\n" {
		t.Errorf("exit code %d, stdout %q", code, stdout)
	}
	equal(t, "stderr", transcript(s.url, stderr), []string{
		"Executing action: core.echo",
		"Waiting for execution ID to complete...",
		"[notifier] connected to ws://SERVER/ws",
		"[notifier] session id client_N",
		"[notifier] subscribed to entity:execution:ID",
		"[notifier] execution_status_changed for execution ID — status=scheduled",
		"[notifier] execution_status_changed for execution ID — status=running",
		"[notifier] execution_status_changed for execution ID — status=completed",
		"✓ Execution ID completed",
	})

	// The same as an event stream, and in one request.
	var told []string
	for len(told) < 5 {
		n := decode[wire.Notification](t, stream.next(t, "message"))
		row := decode[wire.Execution](t, string(n.Payload))
		told = append(told, n.NotificationType+" "+n.EntityID.String()+" "+string(row.Status))
	}
	equal(t, "events", told, []string{
		"execution_created 1 requested", "execution_status_changed 1 scheduling", "execution_status_changed 1 scheduled",
		"execution_status_changed 1 running", "execution_status_changed 1 completed",
	})
	id := s.execute(t, "core.sleep", "seconds=0.2")
	for _, id := range []string{"1", id} {
		status, body := s.get(t, "/executions/"+id+"?until=terminal&wait=60s")
		if x := decode[wire.Execution](t, body); status != http.StatusOK || x.Status != wire.StatusCompleted {
			t.Errorf("execution %s: %d %s", id, status, body)
		}
	}

	status, page := s.get(t, "/")
	if status != http.StatusOK || !strings.Contains(page, "<!doctype html>") {
		t.Errorf("the page: %d %.100s", status, page)
	}
	if code, stdout, _ := s.attune(t, "health"); code != 0 || !strings.Contains(stdout, "is ready") {
		t.Errorf("health: exit code %d, %s", code, stdout)
	}
	if log := s.stderr.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("a first start is no reason for a warning:\n%s", log)
	}
}

// transcript returns the lines of a client's stderr with what differs between runs
// replaced.
func transcript(url, stderr string) []string {
	stderr = strings.ReplaceAll(stderr, strings.TrimPrefix(url, "http://"), "SERVER")
	stderr = regexp.MustCompile(`client_\d+`).ReplaceAllString(stderr, "client_N")
	stderr = regexp.MustCompile(`([Ee]xecution[ :])\d+`).ReplaceAllString(stderr, "${1}ID")
	return strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
}

// However a run ends, no PostgreSQL is left, and the next one is ready soon and has
// what was there.
func TestServe_EndsAndStartsAgain(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	busy := "" // an execution whose action was running at the end
	// The first start, which makes the database besides, tells how slow the machine is
	// at the time: where it takes longer than this, so may the others.
	soon := 5 * time.Second
	if attunetest.RaceEnabled() { // it is some times slower, and other databases are made meanwhile
		soon *= 6
	}
	ends := []struct {
		name string
		end  func(s *server)
		code int
	}{
		{"SIGTERM", func(s *server) { s.signal(syscall.SIGTERM) }, 0},
		{"SIGINT", func(s *server) { s.signal(syscall.SIGINT) }, 0},
		{"SecondSIGINT", func(s *server) {
			s.signal(syscall.SIGINT)
			s.leaves(t)
			s.signal(syscall.SIGINT)
		}, -1},
		{"SIGKILL", func(s *server) { s.signal(syscall.SIGKILL) }, -1},
		{"Last", func(s *server) { s.signal(syscall.SIGTERM) }, 0},
	}
	for i, tt := range ends {
		begun := time.Now()
		// Long enough for the running action to be cut by nothing but the second signal.
		s := serve(t, "ATTUNE_DATA_DIR="+dir, "ATTUNE_DRAIN=20s")
		took := time.Since(begun)
		if i == 0 {
			soon = max(soon, took)
		} else {
			t.Logf("start after %s: %s", ends[i-1].name, took.Round(time.Millisecond))
			if took > soon {
				t.Errorf("start after %s took %s, want at most %s", ends[i-1].name, took, soon)
			}
		}
		if busy != "" {
			x := s.reaches(t, busy, wire.StatusAbandoned)
			t.Logf("after %s its execution is %s, %s after the start", ends[i-1].name, x.Status, time.Since(begun).Round(time.Millisecond))
		}
		if code, _, stderr := s.attune(t, "action", "execute", "core.echo", "--param", "message="+tt.name, "--wait"); code != 0 {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
		_, body := s.get(t, "/executions?action_ref=core.echo")
		equal(t, "executions", len(decode[wire.ExecutionList](t, body).Items), i+1)

		busy = ""
		if tt.code == -1 {
			busy = s.execute(t, "core.sleep", "seconds=600")
			s.reaches(t, busy, wire.StatusRunning)
		}
		tt.end(s)
		if code := s.wait(); code != tt.code {
			t.Errorf("exit code after %s is %d, want %d", tt.name, code, tt.code)
		}
		if tt.code == 0 { // it has tidied up itself
			if left := postgres(t, dir); len(left) > 0 {
				t.Errorf("after %s there is PostgreSQL left: %v", tt.name, left)
			}
		}
		wantNoPostgres(t, dir)
	}
}

// A start that is given up leaves nothing either.
func TestServe_InterruptedStart(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		p := start(t, []string{"ATTUNE_DATA_DIR=" + dir, "ATTUNE_LISTEN_ADDR=127.0.0.1:0"}, "serve")
		eventually(t, "it initializes", func() bool {
			_, err := os.Stat(filepath.Join(dir, "pgdata"))
			return err == nil
		})
		p.signal(sig)
		if code := p.wait(); code == 0 {
			t.Errorf("exit code after %s is 0", sig)
		}
		wantNoPostgres(t, dir)
	}
	serve(t, "ATTUNE_DATA_DIR="+dir)
}

// Without its database it has nothing to serve, and says so.
func TestServe_OwnPostgreSQLDies(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := serve(t, "ATTUNE_DATA_DIR="+dir)
	s.reaches(t, s.execute(t, "core.noop"), wire.StatusCompleted) // all of it has started
	first, _, _ := strings.Cut(read(t, filepath.Join(dir, "pgdata", "postmaster.pid")), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(s.stderr.String(), "our own PostgreSQL has ended") {
		t.Error("it does not say why it ended")
	}
	wantNoPostgres(t, dir)
}

// Whatever its clients do, it is gone in time: two seconds after the drain.
func TestServe_Drain(t *testing.T) {
	t.Parallel()
	const drain = time.Second
	s := serve(t, "ATTUNE_DATA_DIR="+dataDir(t), "ATTUNE_DRAIN="+drain.String())
	id := s.execute(t, "core.sleep", "seconds=600")
	s.reaches(t, id, wire.StatusRunning)

	stream := events(t, s, "?filter=entity_type:none") // that it runs may be told after the welcome
	stream.next(t, "welcome")
	silent := dialSilent(t, s, "GET /ws?filter=all HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	dialSilent(t, s, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	follower := s.start(t, "events")
	follower.says(follower.stderr, "subscribed to all")
	waiter := s.start(t, "execution", "wait", id, "--timeout", "3s")
	waiter.says(waiter.stderr, "Waiting for execution")
	poll := make(chan int, 1)
	go func() {
		status, _ := s.get(t, "/executions/"+id+"?until=terminal&wait=60s")
		poll <- status
	}()
	eventually(t, "the long poll has begun", func() bool {
		_, body := s.get(t, "/stats")
		return decode[struct{ Connections map[string]int }](t, body).Connections["longpoll"] == 1
	})

	begun := time.Now()
	s.signal(syscall.SIGTERM)
	code := s.wait()
	took := s.ended.Sub(begun)
	t.Logf("ended %s after SIGTERM with a drain of %s", took.Round(time.Millisecond), drain)
	if code != 0 || took > drain+2*time.Second {
		t.Errorf("exit code %d after %s, want 0 within %s", code, took, drain+2*time.Second)
	}
	equal(t, "goodbye", stream.next(t, "bye"), `{"type":"bye","reason":"server_shutdown"}`)
	if status := <-poll; status != http.StatusOK {
		t.Errorf("the long poll was answered with %d", status)
	}
	frames, _ := io.ReadAll(silent)
	if goingAway := "\x88\x13\x03\xe9"; !strings.Contains(string(frames), goingAway[:1]) || !strings.Contains(string(frames), goingAway[2:]) {
		t.Errorf("the WebSocket was not closed with 1001: %q", frames)
	}
	follower.says(follower.stderr, "going away")
	if code := waiter.wait(); code != 1 && code != 7 {
		t.Errorf("exit code of the waiting client is %d, want 7, or 1 if it saw no end", code)
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eventStream is an open event stream.
type eventStream struct{ lines *bufio.Scanner }

// events opens an event stream as curl would, until t ends.
func events(t *testing.T, s *server, query string) *eventStream {
	t.Helper()
	resp := s.do(t, http.MethodGet, "/events"+query, "")
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /events%s: %s", query, resp.Status)
	}
	return &eventStream{bufio.NewScanner(resp.Body)}
}

// next returns the data of the next event, which must have that name; "message" is
// the name of those without one.
func (e *eventStream) next(t *testing.T, want string) string {
	t.Helper()
	name, data := "message", ""
	for e.lines.Scan() {
		field, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch {
		case field == "event":
			name = value
		case field == "data":
			data = value
		case field == "" && data != "":
			if name != want {
				t.Fatalf("event %s %s, want %s", name, data, want)
			}
			return data
		}
	}
	t.Fatalf("the stream ended (%v), want %s", e.lines.Err(), want)
	return ""
}

// dataDir returns the path of a data directory that does not exist yet, in a
// directory that other users can enter, as t.TempDir's cannot be by them: as root,
// PostgreSQL is run by another user. No PostgreSQL must be left on it when t ends.
func dataDir(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "attune-data-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "data")
	t.Cleanup(func() {
		wantNoPostgres(t, dir)
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// wantNoPostgres waits until no PostgreSQL works on a data directory, and nothing
// that keeps one.
func wantNoPostgres(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "no PostgreSQL is left on "+dir, func() bool { return len(postgres(t, dir)) == 0 && !kept(dir) })
}

// postgres lists the PostgreSQL processes that work on a data directory.
func postgres(t *testing.T, dir string) (processes []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Fatal("processes are looked for in /proc")
	}
	cwds, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range cwds {
		cwd, err := os.Readlink(link) // fails for another's process, and for one that has ended
		if err == nil && strings.HasPrefix(cwd, dir) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
			processes = append(processes, link+" "+string(cmdline))
		}
	}
	return processes
}

// kept reports whether a keeper is there, or a process of PostgreSQL: each holds a
// lock as long as it lives.
func kept(dir string) bool {
	for _, name := range []string{"keeper.lock", "postgres.lock"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		defer f.Close()
		if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
			return true
		}
	}
	return false
}
