package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
)

// proxy stands between clients and a server and breaks what networks break.
//
// It passes points, in this order when a client executes and waits: "executed" (the
// server has answered the POST, the client does not know), "connect" (a WebSocket is
// asked for, the server does not know), "connected", "subscribe", "subscribed" (the
// frames), "read" (the row is asked for), "answer" (it was read). At each of them,
// what comes next waits until at returns.
type proxy struct {
	t       *testing.T
	url     string
	target  atomic.Pointer[string]
	at      func(point string) // not nil
	refusal atomic.Int32       // the status that WebSockets are refused with; -1: the connection is cut
	deaf    atomic.Bool        // nothing but "subscribed" and what was before gets from the server to the client
	tasks   sync.WaitGroup

	mu      sync.Mutex
	sockets map[*websocket.Conn]struct{} // to clients
}

// newProxy starts a proxy to s that ends with t. Nothing is broken yet.
func newProxy(t *testing.T, s *server, at func(point string)) *proxy {
	t.Helper()
	p := &proxy{t: t, at: at, sockets: make(map[*websocket.Conn]struct{})}
	if p.at == nil {
		p.at = func(string) {}
	}
	p.target.Store(&s.url)
	ts := httptest.NewServer(p)
	p.url = ts.URL
	t.Cleanup(func() {
		p.cut()
		ts.CloseClientConnections()
		ts.Close()
		p.tasks.Wait()
	})
	return p
}

// start starts a client command that talks to the proxy.
func (p *proxy) start(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, []string{"ATTUNE_URL=" + p.url}, args...)
}

// cut breaks all WebSockets without a word.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.sockets {
		_ = conn.CloseNow()
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.tasks.Add(1)
	defer p.tasks.Done()
	if r.URL.Path == "/ws" {
		p.socket(w, r)
		return
	}
	if r.Method == http.MethodGet {
		p.at("read")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, *p.target.Load()+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return
	}
	req.Header, req.Close = r.Header.Clone(), true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	p.at(map[string]string{http.MethodGet: "answer", http.MethodPost: "executed"}[r.Method])
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

// socket passes the messages of a WebSocket on, both ways.
func (p *proxy) socket(w http.ResponseWriter, r *http.Request) {
	switch status := int(p.refusal.Load()); status {
	case 0:
	case -1:
		panic(http.ErrAbortHandler)
	default:
		http.Error(w, "no WebSockets here", status)
		return
	}
	p.at("connect")
	// Not the request's context, which ends with nothing once the connection is taken over.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	url := "ws" + strings.TrimPrefix(*p.target.Load(), "http") + r.URL.RequestURI()
	back, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"attune.v1"}}) //nolint:bodyclose // the library closes it
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer back.CloseNow() //nolint:errcheck // whatever is left of it
	p.at("connected")
	front, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"attune.v1"}})
	if err != nil {
		return
	}
	defer front.CloseNow() //nolint:errcheck // whatever is left of it
	p.mu.Lock()
	p.sockets[front] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.sockets, front)
	}()

	var wg sync.WaitGroup
	wg.Go(func() {
		defer back.CloseNow() //nolint:errcheck // the other way is to end
		p.pass(ctx, front, back, func(string) bool { return true })
	})
	acknowledged := false
	p.pass(ctx, back, front, func(kind string) bool {
		swallow := p.deaf.Load() && acknowledged
		acknowledged = acknowledged || kind == "subscribed"
		return !swallow
	})
	_ = front.CloseNow()
	wg.Wait()
}

// pass passes messages on until either end breaks, those that want refuses excepted.
func (p *proxy) pass(ctx context.Context, from, to *websocket.Conn, want func(kind string) bool) {
	for {
		kind, frame, err := from.Read(ctx)
		if err != nil {
			return
		}
		var message struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(frame, &message); err != nil {
			p.t.Errorf("frame %q: %v", frame, err)
		}
		if message.Type == "subscribe" || message.Type == "subscribed" {
			p.at(message.Type)
		}
		if want(message.Type) && to.Write(ctx, kind, frame) != nil {
			return
		}
	}
}

// gate is where an action waits until a test lets it go on: a URL that answers no
// sooner than that.
type gate struct {
	url  string
	once sync.Once
	free chan struct{}
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{free: make(chan struct{})}
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-g.free:
		case <-r.Context().Done():
		}
	}))
	g.url = ts.URL
	t.Cleanup(func() {
		g.open()
		ts.CloseClientConnections()
		ts.Close()
	})
	return g
}

// open lets the action go on.
func (g *gate) open() { g.once.Do(func() { close(g.free) }) }

// action is the command line that executes the action and waits.
func (g *gate) action(flags ...string) []string {
	return append([]string{"action", "execute", "core.http_request", "--param", "url=" + g.url, "--wait"}, flags...)
}
