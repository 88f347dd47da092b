package cli_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/cli"
	"attune/wire"
)

// hello is the result that the tests' executions have, as it is printed.
const hello = `{"message":"Hello!","n":1.50,"html":"<b>"}`

// transcript is the documented one, of the first execution.
func transcript(s *server, last ...string) string {
	lines := append([]string{
		"Executing action: core.echo",
		"Waiting for execution 1 to complete...",
		"[notifier] connected to ws" + strings.TrimPrefix(s.url, "http") + "/ws",
		"[notifier] session id client_1",
		"[notifier] subscribed to entity:execution:1",
		"[notifier] execution_status_changed for execution 1 — status=scheduled",
		"[notifier] execution_status_changed for execution 1 — status=running",
	}, last...)
	return strings.Join(lines, "\n") + "\n"
}

func completedLines() []string {
	return []string{
		"[notifier] execution_status_changed for execution 1 — status=completed",
		"✓ Execution 1 completed",
	}
}

// The transcript is word for word the same whoever is faster, the action or the
// client, and whether or not the scheduler shows its moment.
func TestRun_Transcript(t *testing.T) {
	steps := []wire.Status{wire.StatusScheduling, wire.StatusScheduled, wire.StatusRunning, wire.StatusCompleted}
	tests := map[string]struct{ before, during []wire.Status }{
		"ActionFirst":       {before: steps},
		"ClientFirst":       {during: steps},
		"Between":           {before: steps[:2], during: steps[2:]},
		"WithoutScheduling": {before: steps[1:]},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.created = func(e wire.Execution) { s.change(e.ID, tt.before...) }
			got := s.runDuring(t, func(_, stderr *output, _ func()) {
				stderr.has(t, "subscribed", 1)
				s.change(1, tt.during...)
			}, "action", "execute", "core.echo", "--param", "message=Hello!", "--wait")
			want := result{stdout: hello + "\n", stderr: transcript(s, completedLines()...)}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := string(s.rows[0].Parameters); got != `{"message":"Hello!"}` {
				t.Errorf("parameters %s", got)
			}
		})
	}
}

// The WebSocket is cut in mid-wait: the wait says so and goes on where it was.
func TestRun_WebSocketDropped(t *testing.T) {
	s := newServer(t)
	s.created = func(e wire.Execution) { s.change(e.ID, wire.StatusScheduled) }
	got := s.runDuring(t, func(_, stderr *output, _ func()) {
		stderr.has(t, "status=scheduled", 1)
		s.cut()
		s.change(1, wire.StatusRunning)
		stderr.has(t, "subscribed", 2)
		s.change(1, wire.StatusCompleted)
	}, "action", "execute", "core.echo", "--wait")
	if got.code != cli.ExitCompleted || got.stdout != hello+"\n" {
		t.Fatalf("%+v", got)
	}
	for _, line := range []string{"connection lost", "retrying in", "session id client_2", "[notifier] execution_status_changed for execution 1 — status=running", "status=completed"} {
		if strings.Count(got.stderr, line) != 1 {
			t.Errorf("stderr has not one %q:\n%s", line, got.stderr)
		}
	}
}

// No WebSocket: the row is read, and that is said.
func TestRun_WebSocketRefused(t *testing.T) {
	for _, timeout := range []string{"1", "5s", "10", "60"} {
		t.Run(timeout, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.broken("/ws", http.NotFound)
			s.created = func(e wire.Execution) {
				time.AfterFunc(700*time.Millisecond, func() { s.change(e.ID, wire.StatusCompleted) })
			}
			started := time.Now()
			got := s.run(t, "action", "execute", "core.echo", "--wait", "--timeout", timeout)
			if got.code != cli.ExitCompleted || got.stdout != hello+"\n" || !strings.Contains(got.stderr, "[poll]") {
				t.Errorf("%+v", got)
			}
			if took := time.Since(started); took > 4*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestRun_Outcomes(t *testing.T) {
	tests := map[wire.Status]struct {
		code int
		line string
	}{
		wire.StatusCompleted: {cli.ExitCompleted, "✓ Execution 1 completed"},
		wire.StatusFailed:    {cli.ExitFailed, "✗ Execution 1 failed"},
		wire.StatusCancelled: {cli.ExitCancelled, "✗ Execution 1 cancelled"},
		wire.StatusTimeout:   {cli.ExitServer, "✗ Execution 1 timed out"},
		wire.StatusAbandoned: {cli.ExitServer, "✗ Execution 1 abandoned"},
		"succeeded":          {cli.ExitCompleted, "✓ Execution 1 completed"},
		"canceled":           {cli.ExitCancelled, "✗ Execution 1 cancelled"},
		"timed_out":          {cli.ExitServer, "✗ Execution 1 timed out"},
	}
	for status, tt := range tests {
		t.Run(string(status), func(t *testing.T) {
			s := newServer(t)
			s.created = func(e wire.Execution) { s.change(e.ID, status) }
			got := s.run(t, "action", "execute", "core.echo", "--wait")
			if got.code != tt.code || got.stdout != hello+"\n" || !strings.HasSuffix(got.stderr, tt.line+"\n") {
				t.Errorf("%+v, want code %d and %q", got, tt.code, tt.line)
			}
			got = s.run(t, "execution", "wait", "1", "--json")
			var e wire.Execution
			if err := json.Unmarshal([]byte(got.stdout), &e); err != nil || e.Status != status || got.code != tt.code || strings.Count(got.stdout, "\n") != 1 {
				t.Errorf("--json: %+v: %v", got, err)
			}
		})
	}
}

// What goes wrong has its exit code, and with --json one object on stdout.
func TestRun_Errors(t *testing.T) {
	type fault struct {
		path    string
		handler http.HandlerFunc
	}
	tests := map[string]struct {
		args  []string
		fault fault
		code  int
		json  wire.Code
	}{
		"UnknownAction":   {[]string{"action", "execute", "core.ecko"}, fault{}, cli.ExitUsage, wire.CodeUnknownAction},
		"BadParameter":    {[]string{"action", "execute", "core.echo"}, fault{"/executions", refuse(422, wire.CodeInvalidParameter, "message")}, cli.ExitUsage, wire.CodeInvalidParameter},
		"TooLarge":        {[]string{"action", "execute", "core.echo"}, fault{"/executions", refuse(413, wire.CodeTooLarge, "1 MiB")}, cli.ExitUsage, wire.CodeTooLarge},
		"ReadOnly":        {[]string{"action", "execute", "core.readonly"}, fault{}, cli.ExitError, wire.CodeReadOnly},
		"NotFound":        {[]string{"execution", "wait", "999"}, fault{}, cli.ExitError, wire.CodeNotFound},
		"ShowNotFound":    {[]string{"execution", "show", "999"}, fault{}, cli.ExitError, wire.CodeNotFound},
		"AlreadyTerminal": {[]string{"execution", "cancel", "1"}, fault{}, cli.ExitError, wire.CodeAlreadyTerminal},
		"Unauthenticated": {[]string{"action", "execute", "core.echo", "--wait"}, fault{"/", refuse(401, wire.CodeUnauthenticated, "no token")}, cli.ExitDenied, wire.CodeUnauthenticated},
		"Forbidden":       {[]string{"execution", "wait", "1"}, fault{"/", refuse(403, wire.CodeForbidden, "not yours")}, cli.ExitDenied, wire.CodeForbidden},
		"ProxyForbids":    {[]string{"execution", "list"}, fault{"/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }}, cli.ExitDenied, wire.CodeForbidden},
		"NoExecutions":    {[]string{"execution", "wait", "1"}, fault{"/executions", refuse(501, wire.CodeNoExecutions, "none")}, cli.ExitError, wire.CodeNoExecutions},
		"ServerError":     {[]string{"execution", "show", "1"}, fault{"/", refuse(500, wire.CodeInternal, "oops")}, cli.ExitError, wire.CodeInternal},
		"BadGateway":      {[]string{"execution", "show", "1"}, fault{"/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }}, cli.ExitError, "http_502"},
		"LastLookFails":   {[]string{"execution", "wait", "1", "--timeout", "0"}, fault{"/", refuse(500, wire.CodeInternal, "oops")}, cli.ExitError, wire.CodeInternal},
		"EventsForbidden": {[]string{"events"}, fault{"/ws", refuse(403, wire.CodeForbidden, "not yours")}, cli.ExitDenied, wire.CodeForbidden},
		"EventsSSE":       {[]string{"events", "--sse"}, fault{"/events", refuse(401, wire.CodeUnauthenticated, "no token")}, cli.ExitDenied, wire.CodeUnauthenticated},
		"NoCommand":       {[]string{"action", "exekute"}, fault{}, cli.ExitUsage, "usage"},
		"NoSuchCommand":   {[]string{"frobnicate"}, fault{}, cli.ExitUsage, "usage"},
		"NoSuchFlag":      {[]string{"execution", "list", "--frob"}, fault{}, cli.ExitUsage, "usage"},
		"NoAction":        {[]string{"action", "execute"}, fault{}, cli.ExitUsage, "usage"},
		"TwoActions":      {[]string{"action", "execute", "a", "b"}, fault{}, cli.ExitUsage, "usage"},
		"ParamNoValue":    {[]string{"action", "execute", "core.echo", "--param", "message"}, fault{}, cli.ExitUsage, "usage"},
		"ParamNoName":     {[]string{"action", "execute", "core.echo", "--param", "=x"}, fault{}, cli.ExitUsage, "usage"},
		"ParamTwice":      {[]string{"action", "execute", "core.echo", "--param", "a=1", "--param", "a=2"}, fault{}, cli.ExitUsage, "usage"},
		"ParamsNoObject":  {[]string{"action", "execute", "core.echo", "--params-json", "[1]"}, fault{}, cli.ExitUsage, "usage"},
		"BadTimeout":      {[]string{"execution", "wait", "1", "--timeout", "soon"}, fault{}, cli.ExitUsage, "usage"},
		"NegativeTimeout": {[]string{"execution", "wait", "1", "--timeout", "-1"}, fault{}, cli.ExitUsage, "usage"},
		"BadID":           {[]string{"execution", "wait", "1", "x"}, fault{}, cli.ExitUsage, "usage"},
		"ZeroID":          {[]string{"execution", "show", "0"}, fault{}, cli.ExitUsage, "usage"},
		"NoID":            {[]string{"execution", "wait"}, fault{}, cli.ExitUsage, "usage"},
		"BadStatus":       {[]string{"execution", "list", "--status", "done"}, fault{}, cli.ExitUsage, "usage"},
		"BadLimit":        {[]string{"execution", "list", "--limit", "501"}, fault{}, cli.ExitUsage, "usage"},
		"BadFilter":       {[]string{"events", "--filter", "execution:51"}, fault{}, cli.ExitUsage, wire.CodeInvalidFilter},
		"BadURL":          {[]string{"execution", "show", "1", "--url", "localhost:8081"}, fault{}, cli.ExitUsage, "usage"},
		"Unreachable":     {[]string{"execution", "show", "1", "--url", "http://" + closedPort(t)}, fault{}, cli.ExitError, "unreachable"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.add(wire.StatusCompleted)
			s.broken(tt.fault.path, tt.fault.handler)
			got := s.run(t, tt.args...)
			if got.code != tt.code || got.stdout != "" || !strings.Contains(got.stderr, "Error: ") {
				t.Errorf("%+v, want code %d", got, tt.code)
			}
			got = s.run(t, append(tt.args, "--json")...)
			var answer struct {
				Error wire.Error `json:"error"`
			}
			if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
				t.Fatalf("--json: %v: %+v", err, got)
			}
			if got.code != tt.code || answer.Error.Code != tt.json || answer.Error.Message == "" || strings.Count(got.stdout, "\n") != 1 {
				t.Errorf("--json: %+v, want code %d and %q", got, tt.code, tt.json)
			}
		})
	}
}

// closedPort returns an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The wait's own time is over.
func TestRun_Timeout(t *testing.T) {
	for _, timeout := range []string{"0", "1", "1s"} {
		t.Run(timeout, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.created = func(e wire.Execution) { s.change(e.ID, wire.StatusRunning) }
			got := s.run(t, "action", "execute", "core.echo", "--wait", "--timeout", timeout)
			if got.code != cli.ExitTimeout || got.stdout != "" || !strings.Contains(got.stderr, "attune execution wait 1\n") {
				t.Errorf("%+v", got)
			}
			got = s.run(t, "execution", "wait", "1", "--timeout", timeout, "--json", "-q")
			var e wire.Execution
			if err := json.Unmarshal([]byte(got.stdout), &e); err != nil || got.code != cli.ExitTimeout || e.Status != wire.StatusRunning {
				t.Errorf("--json: %+v: %v", got, err)
			}
		})
	}
}

// Ctrl-C detaches and says how to come back.
func TestRun_Detached(t *testing.T) {
	for _, flag := range []string{"", "--json", "-q"} {
		t.Run(flag, func(t *testing.T) {
			s := newServer(t)
			c := command{during: func(_, _ *output, interrupt func()) {
				<-s.streams
				interrupt()
			}}
			args := []string{"--url", s.url, "action", "execute", "core.echo", "--wait"}
			if flag != "" {
				args = append(args, flag)
			}
			got := c.run(t, args...)
			want := "attune execution wait 1 --url " + s.url + "\n"
			if flag == "--json" {
				want = strings.TrimSpace(want) + " --json\n"
			}
			if got.code != cli.ExitDetached || !strings.Contains(got.stderr, "execution 1,") || !strings.HasSuffix(got.stderr, want) {
				t.Errorf("%+v", got)
			}
			var e wire.Execution
			switch flag {
			case "--json":
				if err := json.Unmarshal([]byte(got.stdout), &e); err != nil || e.ID != 1 {
					t.Errorf("%+v: %v", got, err)
				}
			default:
				if got.stdout != "" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// Interrupted before the server answered, nobody knows whether there is an execution.
func TestRun_InterruptedWhileStarting(t *testing.T) {
	s := newServer(t)
	asked := make(chan struct{})
	s.broken("/executions", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or nothing is heard of the client's going
		close(asked)
		<-r.Context().Done()
	})
	got := s.runDuring(t, func(_, _ *output, interrupt func()) {
		<-asked
		interrupt()
	}, "action", "execute", "core.echo", "--wait", "--json")
	if got.code != cli.ExitDetached || !strings.Contains(got.stderr, "may have been started") || !strings.HasPrefix(got.stdout, `{"error":{"code":"detached"`) {
		t.Errorf("%+v", got)
	}
}

func TestRun_WithoutWaiting(t *testing.T) {
	s := newServer(t)
	want := result{stdout: "1\n", stderr: "Executing action: core.echo\n"}
	if diff := cmp.Diff(want, s.run(t, "action", "execute", "core.echo"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = result{stdout: "2\n"}
	if diff := cmp.Diff(want, s.run(t, "action", "execute", "core.echo", "--quiet"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("-q (-want +got):\n%s", diff)
	}
	got := s.run(t, "action", "execute", "core.echo", "--json", "-q")
	var e wire.Execution
	if err := json.Unmarshal([]byte(got.stdout), &e); err != nil || e.ID != 3 || got.stderr != "" {
		t.Errorf("--json: %+v: %v", got, err)
	}
}

func TestRun_Quiet(t *testing.T) {
	s := newServer(t)
	s.created = func(e wire.Execution) { s.change(e.ID, wire.StatusFailed) }
	want := result{code: cli.ExitFailed, stdout: hello + "\n"}
	got := s.run(t, "action", "execute", "core.echo", "--wait", "-q")
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRun_Parameters(t *testing.T) {
	tests := map[string]struct {
		args  []string
		stdin string
		want  string
	}{
		"None":       {nil, "", `{}`},
		"String":     {[]string{"--param", "message=Hello, <world>!"}, "", `{"message":"Hello, <world>!"}`},
		"Number":     {[]string{"--param", "seconds=5"}, "", `{"seconds":5}`},
		"Large":      {[]string{"--param", "id=9223372036854775807"}, "", `{"id":9223372036854775807}`},
		"Quoted":     {[]string{"--param", `seconds="5"`}, "", `{"seconds":"5"}`},
		"Object":     {[]string{"--param", `headers={"Accept":"*/*"}`}, "", `{"headers":{"Accept":"*/*"}}`},
		"Null":       {[]string{"--param", "body=null"}, "", `{"body":null}`},
		"Empty":      {[]string{"--param", "message="}, "", `{"message":""}`},
		"Equals":     {[]string{"--param", "url=http://x/?a=b"}, "", `{"url":"http://x/?a=b"}`},
		"Comma":      {[]string{"--param", "message=a,b"}, "", `{"message":"a,b"}`},
		"JSON":       {[]string{"--params-json", `{"b":1,"a":2}`}, "", `{"a":2,"b":1}`},
		"Both":       {[]string{"--params-json", `{"a":1,"b":2}`, "--param", "b=3"}, "", `{"a":1,"b":3}`},
		"Stdin":      {[]string{"--params-json", "-"}, `{"a": "from stdin"}`, `{"a":"from stdin"}`},
		"NotASecond": {[]string{"--param", "n=1 2"}, "", `{"n":"1 2"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			c := command{env: map[string]string{"ATTUNE_URL": s.url}, stdin: tt.stdin}
			if got := c.run(t, append([]string{"action", "execute", "core.echo"}, tt.args...)...); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			if got := string(s.rows[0].Parameters); got != tt.want {
				t.Errorf("parameters %s, want %s", got, tt.want)
			}
		})
	}
}
