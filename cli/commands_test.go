package cli_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"attune/cli"
	"attune/wire"
)

func TestRun_ExecutionWait(t *testing.T) {
	s := newServer(t)
	for _, status := range []wire.Status{wire.StatusCompleted, wire.StatusRunning, wire.StatusFailed, wire.StatusCancelled} {
		s.add(status)
	}
	time.AfterFunc(300*time.Millisecond, func() { s.change(2, wire.StatusCompleted) })
	got := s.run(t, "execution", "wait", "1", "2", "4", "3", "--json")
	var ids []int64
	d := json.NewDecoder(strings.NewReader(got.stdout))
	for {
		var e wire.Execution
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	if diff := cmp.Diff([]int64{1, 2, 4, 3}, ids); diff != "" || got.code != cli.ExitCancelled || strings.Count(got.stdout, "\n") != 4 {
		t.Errorf("%+v, ids (-want +got):\n%s", got, diff)
	}
	// One that does not exist keeps nobody from the others.
	got = s.run(t, "execution", "wait", "1", "99", "3")
	if got.code != cli.ExitError || got.stdout != hello+"\n"+hello+"\n" || !strings.Contains(got.stderr, "no execution 99") {
		t.Errorf("%+v", got)
	}
	got = s.run(t, "execution", "wait", "99", "3", "--json", "-q")
	if lines := strings.Split(got.stdout, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], `{"error":{"code":"not_found"`) || got.code != cli.ExitError {
		t.Errorf("%+v", got)
	}
}

func TestRun_ExecutionShow(t *testing.T) {
	s := newServer(t)
	s.add(wire.StatusCompleted)
	want := result{stdout: `id:         1
action:     core.echo
status:     completed
parent:     -
executor:   -
created:    2026-03-03T19:42:41.123456Z
started:    -
updated:    2026-03-03T19:42:41.123456Z
parameters: null
result:     ` + hello + "\n"}
	if diff := cmp.Diff(want, s.run(t, "execution", "show", "1"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var e wire.Execution
	if got := s.run(t, "execution", "show", "1", "--json"); json.Unmarshal([]byte(got.stdout), &e) != nil || e.ID != 1 {
		t.Errorf("--json: %+v", got)
	}
}

func TestRun_ExecutionList(t *testing.T) {
	s := newServer(t)
	if got := s.run(t, "execution", "list"); got.stdout != "ID  STATUS  ACTION  CREATED\n" || got.code != 0 {
		t.Errorf("empty: %+v", got)
	}
	for _, status := range []wire.Status{wire.StatusCompleted, wire.StatusRunning, wire.StatusFailed} {
		s.add(status)
	}
	want := result{
		stdout: "ID  STATUS   ACTION     CREATED\n" +
			"3   failed   core.echo  2026-03-03T19:42:41.123456Z\n" +
			"2   running  core.echo  2026-03-03T19:42:41.123456Z\n",
		stderr: "More: --before 2\n",
	}
	if diff := cmp.Diff(want, s.run(t, "execution", "list", "--limit", "2"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var list wire.ExecutionList
	got := s.run(t, "execution", "list", "--before", "3", "--status", "completed", "--action", "core.echo", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || len(list.Items) != 1 || list.Items[0].ID != 1 || list.NextBefore != nil {
		t.Errorf("--json: %+v: %v", got, err)
	}
}

func TestRun_ExecutionCancel(t *testing.T) {
	s := newServer(t)
	s.add(wire.StatusRunning)
	if got := s.run(t, "execution", "cancel", "1"); got.stdout != "Execution 1: canceling\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRun_Events(t *testing.T) {
	line := `2026-03-03T19:42:41.123456Z execution_status_changed execution 1 {"id":1,"status":"running"}`
	for name, args := range map[string][]string{
		"WebSocket": {}, "SSE": {"--sse"},
		"SeveralFilters":    {"--filter", "entity_type:execution", "--filter", "entity:execution:1"},
		"SSESeveralFilters": {"--sse", "--filter", "entity_type:execution", "--filter", "entity:execution:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			cursor := s.hub.Cursor().String()
			s.publish(1, "execution_status_changed", wire.StatusRunning)
			got := s.runDuring(t, func(stdout, _ *output, interrupt func()) {
				<-s.streams
				stdout.has(t, line, 1)
				s.cut()
				s.publish(1, "execution_status_changed", wire.StatusRunning) // printed when it is back
				<-s.streams
				s.publish(1, "execution_status_changed", wire.StatusRunning)
				stdout.has(t, line, 3)
				interrupt()
			}, append([]string{"events", "--cursor", cursor}, args...)...)
			if want := strings.Repeat(line+"\n", 3); got.stdout != want || got.code != cli.ExitDetached {
				t.Errorf("%+v, want\n%s", got, want)
			}
			last := "--cursor " + s.hub.Cursor().String() + "\n"
			if !strings.HasSuffix(got.stderr, last) || strings.Count(got.stderr, "connection lost") != 1 {
				t.Errorf("stderr:\n%swant one loss, and last %q", got.stderr, last)
			}
		})
	}
}

// With --json every line is a tagged object, the stream's own messages included.
func TestRun_EventsJSON(t *testing.T) {
	for name, args := range map[string][]string{"WebSocket": {}, "SSE": {"--sse"}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			got := s.runDuring(t, func(stdout, _ *output, interrupt func()) {
				stdout.has(t, "gap", 1) // so it is subscribed
				s.publish(1, "execution_status_changed", wire.StatusRunning)
				s.hub.SetMode(wire.ModeDegraded)
				stdout.has(t, "degraded", 1)
				interrupt()
			}, append([]string{"events", "--json", "--cursor", "another.1"}, args...)...)
			lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
			want := []string{`{"type":"gap","reason":"cursor_unknown"`, `{"type":"notification","notification_type":"execution_status_changed"`, `{"type":"status","mode":"degraded"}`}
			if len(lines) != len(want) {
				t.Fatalf("%+v", got)
			}
			for i := range want {
				if !strings.HasPrefix(lines[i], want[i]) {
					t.Errorf("line %q, want %q", lines[i], want[i])
				}
			}
		})
	}
}

func TestRun_Health(t *testing.T) {
	s := newServer(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]map[string]string{
		"URL":        {"ATTUNE_URL": s.url, "ATTUNE_LISTEN_ADDR": "127.0.0.1:1"},
		"Everywhere": {"ATTUNE_LISTEN_ADDR": "0.0.0.0:" + port},
		"EveryIPv6":  {"ATTUNE_LISTEN_ADDR": "[::]:" + port},
		"NoHost":     {"ATTUNE_LISTEN_ADDR": ":" + port},
		"Loopback":   {"ATTUNE_LISTEN_ADDR": "127.0.0.1:" + port},
	} {
		if got := (command{env: env}).run(t, "health"); got.code != 0 || !strings.Contains(got.stdout, "ready") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s.mu.Lock()
	s.problem = "the canary has not arrived for 12 s"
	s.mu.Unlock()
	if got := s.run(t, "health"); got.code != cli.ExitError || !strings.Contains(got.stderr, "the canary has not arrived for 12 s") {
		t.Errorf("not ready: %+v", got)
	}
	if got := (command{env: map[string]string{"ATTUNE_LISTEN_ADDR": "8081"}}).run(t, "health"); got.code != cli.ExitUsage {
		t.Errorf("bad address: %+v", got)
	}
	if got := (command{env: map[string]string{"ATTUNE_URL": "http://" + closedPort(t)}}).run(t, "health"); got.code != cli.ExitError {
		t.Errorf("unreachable: %+v", got)
	}
}

func TestRun_Version(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		if got := (command{}).run(t, arg); got != (result{stdout: "attune v1.2.3\n"}) {
			t.Errorf("%s: %+v", arg, got)
		}
	}
}

func TestRun_Help(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"action"}, {"execution"}, {"action", "execute", "--help"}, {"completion", "bash"}} {
		if got := (command{}).run(t, args...); got.code != 0 || got.stdout == "" || got.stderr != "" {
			t.Errorf("%q: code %d, stderr %q", args, got.code, got.stderr)
		}
	}
}

// The server's command hangs below ours.
func TestRun_Serve(t *testing.T) {
	served := false
	serve := &cobra.Command{Use: "serve", RunE: func(*cobra.Command, []string) error {
		served = true
		return nil
	}}
	code := cli.Run(t.Context(), cli.Options{
		Args: []string{"serve"}, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""),
		Stdout: io.Discard, Stderr: io.Discard, Commands: []*cobra.Command{serve},
	})
	if code != 0 || !served {
		t.Errorf("code %d, served %v", code, served)
	}
}

// What a server says cannot command the terminal.
func TestRun_ControlCharacters(t *testing.T) {
	s := newServer(t)
	s.created = func(e wire.Execution) {
		s.change(e.ID, "evil\x1b]0;title\x07\u009b2J", wire.StatusCompleted)
	}
	got := s.run(t, "action", "execute", "core.echo", "--wait")
	if strings.ContainsAny(got.stderr, "\x1b\x07\u009b") || !strings.Contains(got.stderr, "status=evil") {
		t.Errorf("stderr %q", got.stderr)
	}
	s.broken("/", refuse(500, wire.CodeInternal, "evil\x1b[2J"))
	if got := s.run(t, "execution", "show", "1"); strings.ContainsRune(got.stderr, '\x1b') {
		t.Errorf("stderr %q", got.stderr)
	}
}
