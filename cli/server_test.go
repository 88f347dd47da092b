package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"attune/broadcast"
	"attune/cli"
	attunehttp "attune/http"
	"attune/web"
	"attune/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// server is attune's own HTTP server on a hub, with executions in memory and a place
// for faults in front.
type server struct {
	hub *broadcast.Hub
	url string

	mu      sync.Mutex
	rows    []wire.Execution // by id, from 1
	created func(wire.Execution)
	problem string // why /readyz says no
	fault   http.HandlerFunc
	path    string // that fault answers
	tokens  []string
	sockets []net.Conn
	streams chan struct{} // one for each stream that was asked for
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{
		hub:     broadcast.New(broadcast.Options{QueueSize: 1000, WindowSize: 1000}),
		created: func(wire.Execution) {},
		streams: make(chan struct{}, 100),
	}
	s.hub.SetMode(wire.ModeLive)
	routes := attunehttp.New(attunehttp.Config{
		Hub: s.hub, Source: s.source, Executions: (*store)(s), Actions: (*store)(s), Page: web.Files(),
		Drain: time.Second, Version: "test", Logger: slog.New(slog.DiscardHandler),
	}).Handler(t.Context())
	live := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.tokens = append(s.tokens, r.Header.Get("Authorization"))
		fault := s.fault
		if fault != nil && !strings.HasPrefix(r.URL.Path, s.path) {
			fault = nil
		}
		s.mu.Unlock()
		if r.URL.Path == "/ws" || r.URL.Path == "/events" {
			s.streams <- struct{}{}
		}
		if fault != nil {
			fault(w, r)
			return
		}
		routes.ServeHTTP(w, r)
	}))
	live.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if state == http.StateHijacked || state == http.StateActive {
			s.sockets = append(s.sockets, c)
		}
	}
	live.Start()
	t.Cleanup(live.Close)
	t.Cleanup(s.cut)
	s.url = live.URL
	return s
}

// cut ends all connections without a word.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sockets {
		_ = c.Close()
	}
	s.sockets = nil
}

// break makes fault answer every request whose path starts with path.
func (s *server) broken(path string, fault http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.fault = path, fault
}

func (s *server) source() attunehttp.SourceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return attunehttp.SourceStats{Source: "listen", Live: s.problem == "", Problem: s.problem}
}

// change gives an execution a status and tells the subscribers.
func (s *server) change(id int64, statuses ...wire.Status) {
	for _, status := range statuses {
		s.mu.Lock()
		row := &s.rows[id-1]
		row.Status = status
		if status.Terminal() {
			row.Result = json.RawMessage(`{"message": "Hello!", "n": 1.50, "html": "<b>"}`)
		}
		s.mu.Unlock()
		s.publish(id, "execution_status_changed", status)
	}
}

func (s *server) publish(id int64, kind string, status wire.Status) {
	text, _ := json.Marshal(status)
	s.hub.Publish(wire.Notification{
		NotificationType: kind, EntityType: "execution", EntityID: wire.IntID(id),
		Payload:   json.RawMessage(fmt.Sprintf(`{"id":%d,"status":%s}`, id, text)),
		Timestamp: time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC),
	})
}

// add makes an execution in that status.
func (s *server) add(status wire.Status) {
	e, _ := (*store)(s).Create(context.Background(), wire.ExecutionRequest{ActionRef: "core.echo"})
	if status != wire.StatusRequested {
		s.change(e.ID, status)
	}
}

// store is what the server keeps of executions.
type store server

func (s *store) Get(_ context.Context, id int64) (wire.Execution, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id < 1 || id > int64(len(s.rows)) {
		return wire.Execution{}, &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("no execution %d", id)}
	}
	return s.rows[id-1], nil
}

func (s *store) GetMany(ctx context.Context, ids []int64) (executions []wire.Execution, err error) {
	for _, id := range ids {
		if x, err := s.Get(ctx, id); err == nil {
			executions = append(executions, x)
		}
	}
	return executions, nil
}

func (s *store) List(_ context.Context, q wire.ExecutionQuery) (wire.ExecutionList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list wire.ExecutionList
	for _, row := range slices.Backward(s.rows) {
		if q.Status != "" && row.Status != q.Status || q.Before != nil && row.ID >= *q.Before || q.ActionRef != "" && row.ActionRef != q.ActionRef {
			continue
		}
		if len(list.Items) == q.Limit {
			list.NextBefore = &list.Items[q.Limit-1].ID
			break
		}
		list.Items = append(list.Items, row)
	}
	return list, nil
}

func (s *store) Create(_ context.Context, req wire.ExecutionRequest) (wire.Execution, error) {
	switch req.ActionRef {
	case "core.ecko":
		return wire.Execution{}, &wire.Error{Code: wire.CodeUnknownAction, Message: "no action core.ecko"}
	case "core.readonly":
		return wire.Execution{}, &wire.Error{Code: wire.CodeReadOnly, Message: "executions are not ours to start"}
	}
	at := time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC)
	s.mu.Lock()
	e := wire.Execution{
		ID: int64(len(s.rows)) + 1, ActionRef: req.ActionRef, Parameters: req.Parameters, Status: wire.StatusRequested,
		Result: json.RawMessage(`null`), Created: at, Updated: at,
	}
	s.rows = append(s.rows, e)
	created := s.created
	s.mu.Unlock()
	(*server)(s).publish(e.ID, "execution_created", wire.StatusRequested)
	created(e)
	return e, nil
}

func (s *store) Cancel(ctx context.Context, id int64) (wire.Execution, error) {
	e, err := s.Get(ctx, id)
	if err != nil {
		return e, err
	}
	if e.Status.Terminal() {
		return e, &wire.Error{Code: wire.CodeAlreadyTerminal, Message: fmt.Sprintf("execution %d is %s", id, e.Status)}
	}
	(*server)(s).change(id, wire.StatusCanceling)
	return s.Get(ctx, id)
}

// output is what a run writes, to be watched while it does.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed by the next write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// has waits until text was written n times.
func (o *output) has(t *testing.T, text string, n int) {
	t.Helper()
	timeout := time.After(patience)
	for {
		o.mu.Lock()
		changed, found := o.changed, strings.Count(o.text.String(), text)
		o.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Errorf("%q was not written %d times:\n%s", text, n, o)
			return
		}
	}
}

// command is one run of the command line.
type command struct {
	env   map[string]string
	stdin string
	// during runs beside the command; what it calls last, if anything, is interrupt.
	during func(stdout, stderr *output, interrupt func())
}

// result is what a run gave.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the command line against s.
func (s *server) run(t *testing.T, args ...string) result {
	t.Helper()
	return s.runDuring(t, nil, args...)
}

func (s *server) runDuring(t *testing.T, during func(stdout, stderr *output, interrupt func()), args ...string) result {
	t.Helper()
	return command{env: map[string]string{"ATTUNE_URL": s.url}, during: during}.run(t, args...)
}

func (c command) run(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stdout, stderr := newOutput(), newOutput()
	var beside sync.WaitGroup
	if c.during != nil {
		beside.Go(func() { c.during(stdout, stderr, cancel) })
	}
	code := cli.Run(ctx, cli.Options{
		Args: args, Getenv: func(name string) string { return c.env[name] },
		Stdin: strings.NewReader(c.stdin), Stdout: stdout, Stderr: stderr, Version: "v1.2.3",
	})
	beside.Wait()
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// refuse answers as the server does when it refuses.
func refuse(status int, code wire.Code, detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "code": code, "detail": detail})
	}
}
