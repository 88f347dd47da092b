package http_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/broadcast"
	attunehttp "attune/http"
	"attune/web"
	"attune/wire"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// server is a Server on a hub and a listener of its own.
type server struct {
	t    testing.TB
	hub  *broadcast.Hub
	addr string // host:port
	url  string
	http *http.Client
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// stop cancels Run, waits for it and returns what it returned; once.
	stop func() error
	// fails says that Run is to end with an error, which the test looks at.
	fails bool
}

// setup is what a test may change before its server starts.
type setup struct {
	attunehttp.Config
	broadcast.Options
}

// start runs a server on a loopback port, its hub live, until t ends.
func start(tb testing.TB, changes ...func(*setup)) *server {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, ln, changes...)
}

// serve is start on a listener.
func serve(tb testing.TB, ln net.Listener, changes ...func(*setup)) *server {
	tb.Helper()
	cfg := setup{
		Config: attunehttp.Config{
			Source: func() attunehttp.SourceStats { return attunehttp.SourceStats{Source: "listen", Live: true} },
			Page:   web.Files(), Drain: 2 * time.Second, Version: "test", Logger: slog.New(slog.DiscardHandler),
		},
		Options: broadcast.Options{QueueSize: 1024, WindowSize: 1024},
	}
	for _, change := range changes {
		change(&cfg)
	}
	if cfg.Hub == nil {
		cfg.Hub = broadcast.New(cfg.Options)
		cfg.Hub.SetMode(wire.ModeLive)
	}
	s := &server{
		t: tb, hub: cfg.Hub, addr: ln.Addr().String(), url: "http://" + ln.Addr().String(),
		dial: new(net.Dialer).DialContext,
	}
	if m, ok := ln.(*memory); ok {
		s.dial = m.dial
	}
	s.http = &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 200, DialContext: s.dial},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var ended error
	wg.Go(func() { ended = attunehttp.New(cfg.Config).Run(ctx, ln) })
	s.stop = sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return ended
	})
	tb.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := s.stop(); err != nil && !s.fails {
			tb.Errorf("Run: %v", err)
		}
	})
	return s
}

// in returns s for a subtest.
func (s *server) in(t *testing.T) *server {
	t.Helper()
	sub := *s
	sub.t = t
	return &sub
}

// notification is about the execution with that id.
func notification(id int64) wire.Notification {
	return wire.Notification{
		NotificationType: "execution_status_changed", EntityType: "execution", EntityID: wire.IntID(id),
		Payload: json.RawMessage(fmt.Sprintf(`{"id":%d}`, id)), Timestamp: time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC),
	}
}

// publish publishes one notification for each id and returns the cursor after the last.
func (s *server) publish(ids ...int64) string {
	for _, id := range ids {
		s.hub.Publish(notification(id))
	}
	return s.hub.Cursor().String()
}

// answer is a whole answer.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// get is do with GET. Headers come in pairs of name and value.
func (s *server) get(path string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, "", headers...)
}

// do makes a request and reads the answer.
func (s *server) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// try is do for other goroutines than the test's.
func (s *server) try(method, path, body string, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Add(headers[i], headers[i+1]); strings.EqualFold(headers[i], "Host") {
			req.Host = headers[i+1]
		}
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{t: s.t, status: resp.StatusCode, header: resp.Header, body: string(b)}, err
}

// ask does as try in a goroutine of its own, and hands over the answer, with the error, if
// there is one, for its body.
func (s *server) ask(to chan<- answer, method, path, body string, headers ...string) {
	go func() {
		a, err := s.try(method, path, body, headers...)
		if err != nil {
			a.t, a.body = s.t, err.Error()
		}
		to <- a
	}()
}

// object decodes the body, which must be a JSON object.
func (a answer) object() map[string]any {
	a.t.Helper()
	return object(a.t, a.body)
}

// want checks the status.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// problem checks that a is problem+json with that status and code, whose detail
// contains each of those words.
func (a answer) problem(status int, code string, words ...string) {
	a.t.Helper()
	a.want(status)
	equal(a.t, "content type", a.header.Get("Content-Type"), "application/problem+json")
	got := a.object()
	detail, _ := got["detail"].(string)
	delete(got, "detail")
	equal(a.t, "problem", got, map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": float64(status), "code": code,
	})
	if detail == "" {
		a.t.Error("no detail")
	}
	for _, word := range words {
		if !strings.Contains(detail, word) {
			a.t.Errorf("detail %q does not name %q", detail, word)
		}
	}
}

// object decodes a JSON object.
func object(tb testing.TB, text string) map[string]any {
	tb.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil || m == nil {
		tb.Fatalf("no JSON object: %q (%v)", text, err)
	}
	return m
}

func equal[T any](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// eventually waits until ok returns true.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	for wait := time.Millisecond; !ok(); wait = min(wait*3/2, 50*time.Millisecond) {
		select {
		case <-deadline:
			tb.Fatalf("not within %s: %s", patience, what)
		case <-time.After(wait):
		}
	}
}

// metric returns the value of one series of /metrics, written as it stands there; -1
// if there is none.
func (s *server) metric(series string) float64 {
	s.t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(s.get("/metrics").want(200).body)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// connections waits until so many connections of a transport are open.
func (s *server) connections(transport string, n float64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%v connections of %s", n, transport), func() bool {
		return s.metric(`attune_connections{transport="`+transport+`"}`) == n
	})
}
