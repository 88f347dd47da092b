package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"attune/broadcast"
	"attune/client"
	"attune/wire"
)

// executionID is the execution that the tests wait for.
const executionID = 51

// server is an attune server with one execution: a real hub behind real HTTP and
// WebSocket, with hooks at every point at which something can happen.
type server struct {
	t   *testing.T
	hub *broadcast.Hub
	url string
	net *network // nil: real sockets

	mu       sync.Mutex
	row      wire.Execution
	order    json.RawMessage // the payload of orders 42; nil: there is none
	start    time.Time
	reads    []time.Duration // since start
	sockets  []time.Duration
	subs     []wire.Subscribe
	position string // the cursor of the 201
	at       map[point]func()
	socket   http.HandlerFunc // in place of /ws
	read     http.HandlerFunc // in place of GET /executions/51
	deaf     bool             // acknowledges and delivers nothing
	mute     bool             // does not even acknowledge
	cuts     []func()         // of the open connections
}

// point is a moment in a wait, as the server sees it.
type point string

const (
	onConnect     point = "connect"       // the handshake has arrived
	onSubscribe   point = "subscribe"     // the subscription has arrived
	onSubscribed  point = "subscribed"    // it stands, its acknowledgement is not sent
	onRead        point = "read"          // the row is about to be read
	onReadAnswer  point = "answer"        // it was read, the answer is not sent
	afterTheStart point = "after start"   // long after all of them
	beforeAll     point = "before it all" // before the client is called
)

// newServer serves until the test ends. With fake, the clock is the bubble's.
func newServer(t *testing.T, fake bool) *server {
	t.Helper()
	s := &server{
		t:     t,
		hub:   broadcast.New(broadcast.Options{QueueSize: 1000, WindowSize: 1000}),
		start: time.Now(),
		at:    make(map[point]func()),
		row: wire.Execution{
			ID: executionID, ActionRef: "core.echo", Status: wire.StatusRequested,
			Parameters: json.RawMessage(`{}`), Result: json.RawMessage(`null`),
		},
	}
	s.hub.SetMode(wire.ModeLive)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", s.serveSocket)
	mux.HandleFunc("GET /events", s.serveEvents)
	mux.HandleFunc("GET /executions/{id}", s.serveRead)
	mux.HandleFunc("GET /entities/orders/42", s.serveRead)
	mux.HandleFunc("POST /executions", s.serveExecute)
	if !fake {
		live := httptest.NewServer(mux)
		t.Cleanup(live.Close)
		t.Cleanup(s.drop)
		s.url = live.URL
		return s
	}
	s.net, s.url = newNetwork(), "http://attune.test"
	h := &http.Server{Handler: mux, ReadHeaderTimeout: time.Hour}
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.Serve(s.net) })
	t.Cleanup(func() {
		s.drop()
		_ = h.Close()
		serving.Wait()
	})
	return s
}

// client returns a client of the server.
func (s *server) client(t *testing.T) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	if s.net != nil {
		transport.DialContext = s.net.dial
	}
	c, err := client.New(client.Config{BaseURL: s.url, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// change gives the execution a status and tells the subscribers, as the triggers do.
func (s *server) change(status wire.Status) {
	s.mu.Lock()
	s.row.Status = status
	if status.Terminal() {
		s.row.Result = json.RawMessage(`{"message":"Hello!"}`)
	}
	s.mu.Unlock()
	s.publish("execution_status_changed", fmt.Sprintf(`{"id":%d,"status":%q}`, executionID, status))
}

func (s *server) publish(kind, payload string) {
	s.hub.Publish(wire.Notification{
		NotificationType: kind, EntityType: "execution", EntityID: wire.IntID(executionID),
		Payload: json.RawMessage(payload), Timestamp: time.Now(),
	})
}

// create makes the execution and returns the position before it.
func (s *server) create() string {
	s.mu.Lock()
	s.position = s.hub.Cursor().String()
	s.mu.Unlock()
	s.publish("execution_created", fmt.Sprintf(`{"id":%d,"status":"requested"}`, executionID))
	return s.position
}

func (s *server) hook(p point) {
	s.mu.Lock()
	f := s.at[p]
	delete(s.at, p)
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// drop cuts all connections, without a word.
func (s *server) drop() {
	s.mu.Lock()
	cuts := s.cuts
	s.cuts = nil
	s.mu.Unlock()
	for _, cut := range cuts {
		cut()
	}
}

func (s *server) cutBy(cut func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cuts = append(s.cuts, cut)
}

// readTimes returns when the row was read.
func (s *server) readTimes() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.reads...)
}

func (s *server) socketTimes() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.sockets...)
}

func (s *server) subscriptions() []wire.Subscribe {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]wire.Subscribe(nil), s.subs...)
}

func (s *server) serveExecute(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Attune-Cursor", s.create())
	w.WriteHeader(http.StatusCreated)
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(s.row)
}

func (s *server) serveRead(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.reads = append(s.reads, time.Since(s.start))
	read := s.read
	s.mu.Unlock()
	s.hook(onRead)
	if read != nil {
		read(w, r)
		return
	}
	s.mu.Lock()
	row, order := s.row, s.order
	s.mu.Unlock()
	s.hook(onReadAnswer)
	if r.PathValue("id") == "" {
		answerOrder(w, order)
		return
	}
	_ = json.NewEncoder(w).Encode(row)
}

func (s *server) serveSocket(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.sockets = append(s.sockets, time.Since(s.start))
	n, socket := len(s.sockets), s.socket
	s.mu.Unlock()
	s.hook(onConnect)
	if socket != nil {
		socket(w, r)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow() //nolint:errcheck // it has ended
	s.cutBy(func() { _ = conn.CloseNow() })

	ctx, cancel := context.WithCancel(context.Background()) // nothing is heard of a hijacked request
	defer cancel()
	sub, mode := s.hub.Connect()
	defer sub.Close()
	sub.Send(wire.Welcome{ClientID: fmt.Sprintf("client_%d", n), Message: "Connected to Attune Notifier", Mode: mode})
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() {
		for {
			frames, err := sub.Next(ctx, nil)
			if err != nil {
				return
			}
			for _, f := range frames {
				_, notification := f.Message.(wire.Notification)
				if notification && s.deaf {
					continue
				}
				if _, ack := f.Message.(wire.Subscribed); ack {
					s.hook(onSubscribed)
				}
				if conn.Write(ctx, websocket.MessageText, f.JSON()) != nil {
					return
				}
			}
		}
	})
	if q := r.URL.Query(); q.Has("filter") {
		var cursor *string
		if c := q.Get("cursor"); c != "" {
			cursor = &c
		}
		for _, f := range q["filter"] {
			s.noteSubscription(wire.Subscribe{Filter: f, Cursor: cursor})
		}
		s.subscribe(sub, q["filter"], cursor)
	}
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return
		}
		m, err := wire.DecodeClientMessage(frame)
		subscribe, ok := m.(wire.Subscribe)
		if err != nil || !ok {
			continue
		}
		s.noteSubscription(subscribe)
		if s.mute {
			continue
		}
		s.hook(onSubscribe)
		s.subscribe(sub, []string{subscribe.Filter}, subscribe.Cursor)
	}
}

func (s *server) noteSubscription(m wire.Subscribe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, m)
}

func (s *server) subscribe(sub *broadcast.Subscriber, texts []string, cursor *string) {
	var filters []wire.Filter
	for _, text := range texts {
		f, err := wire.ParseFilter(text)
		if err != nil {
			sub.Send(&wire.Error{Code: wire.CodeInvalidFilter, Message: text})
			return
		}
		filters = append(filters, f)
	}
	_ = sub.Subscribe(context.Background(), filters, cursor, func(at broadcast.Start) []wire.ServerMessage {
		var acks []wire.ServerMessage
		for _, f := range filters {
			acks = append(acks, wire.Subscribed{Filter: f.String(), Cursor: at.Cursor})
		}
		return acks
	})
}

// serveEvents is the same hub over Server-Sent Events.
func (s *server) serveEvents(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.sockets = append(s.sockets, time.Since(s.start))
	socket := s.socket
	s.mu.Unlock()
	if socket != nil {
		socket(w, r)
		return
	}
	var cursor *string
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		cursor = &id
	}
	sub, _ := s.hub.Connect()
	defer sub.Close()
	var filters []wire.Filter
	for _, text := range r.URL.Query()["filter"] {
		s.noteSubscription(wire.Subscribe{Filter: text, Cursor: cursor})
		f, err := wire.ParseFilter(text)
		if err != nil {
			problem(w, http.StatusBadRequest, wire.CodeInvalidFilter, err.Error())
			return
		}
		filters = append(filters, f)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1500\n\n")
	_ = sub.Subscribe(context.Background(), filters, cursor, func(at broadcast.Start) []wire.ServerMessage {
		return []wire.ServerMessage{wire.Welcome{Mode: at.Mode, Filters: r.URL.Query()["filter"], Cursor: &at.Cursor}}
	})
	ctx, cut := context.WithCancel(r.Context())
	defer cut()
	s.cutBy(cut)
	for {
		frames, err := sub.Next(ctx, nil)
		if err != nil {
			panic(http.ErrAbortHandler) // in the middle of the body
		}
		for _, f := range frames {
			if _, err := w.Write(f.SSE()); err != nil {
				return
			}
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
	}
}

// problem answers as the server does when it refuses.
func problem(w http.ResponseWriter, status int, code wire.Code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "code": code, "detail": detail})
}

// refuse answers every request with a status.
func refuse(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, f func(s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newServer(t, true)) })
}
