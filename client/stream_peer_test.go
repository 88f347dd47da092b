package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"attune/client"
	"attune/wire"
)

// Half-open: the connection is there, its peer is not.
func TestClient_Stream_SilentPeer(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				hang := make(chan struct{})
				s.socket = func(w http.ResponseWriter, r *http.Request) {
					s.mu.Lock()
					s.socket = nil
					s.mu.Unlock()
					if transport == client.SSE {
						w.Header().Set("Content-Type", "text/event-stream")
						fmt.Fprint(w, "event: welcome\nid: c.1\ndata: {\"type\":\"welcome\",\"mode\":\"live\",\"cursor\":\"c.1\"}\n\n")
						_ = http.NewResponseController(w).Flush()
						<-hang
						return
					}
					conn, err := websocket.Accept(w, r, nil)
					if err != nil {
						return
					}
					defer conn.CloseNow() //nolint:errcheck // it has ended
					_ = conn.Write(context.Background(), websocket.MessageText, []byte(`{"type":"subscribed","filter":"all","cursor":"c.1"}`))
					<-hang // reads nothing, so it answers no ping
				}
				started := time.Now()
				var lost time.Duration
				ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
				defer cancel()
				_ = s.client(s.t).Stream(ctx, all(), client.StreamOptions{
					Transport: transport,
					Lost: func(err error, _ time.Duration) {
						if !strings.Contains(err.Error(), "no sign of life") {
							s.t.Error(err)
						}
						lost = time.Since(started)
					},
				}, func(wire.ServerMessage) error { return nil })
				close(hang)
				if lost != 75*time.Second {
					s.t.Errorf("lost after %v, want 75 s", lost)
				}
			})
		})
	}
}

// A quiet stream is no lost one: the WebSocket answers pings, the event stream sends
// comments.
func TestClient_Stream_QuietPeer(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				if transport == client.SSE {
					s.socket = func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
						fmt.Fprint(w, "event: welcome\nid: c.1\ndata: {\"type\":\"welcome\",\"mode\":\"live\",\"cursor\":\"c.1\"}\n\n")
						for r.Context().Err() == nil {
							fmt.Fprint(w, ": still here\n\n")
							_ = http.NewResponseController(w).Flush()
							select {
							case <-r.Context().Done():
							case <-time.After(15 * time.Second):
							}
						}
					}
				}
				f, _ := follow(s.t, s, 10*time.Minute, all(), client.StreamOptions{Transport: transport})
				if len(f.lost) != 0 {
					s.t.Errorf("lost: %q", f.errs)
				}
			})
		})
	}
}

// The time that a handler takes is its own.
func TestClient_Stream_SlowHandler(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				at(map[time.Duration]func(){time.Second: note(s, 1), 2 * time.Second: note(s, 2)})
				ctx, cancel := context.WithTimeout(s.t.Context(), 4*time.Minute)
				defer cancel()
				n := 0
				_ = s.client(s.t).Stream(ctx, all(), client.StreamOptions{
					Transport: transport,
					Lost:      func(err error, _ time.Duration) { s.t.Error(err) },
				}, func(m wire.ServerMessage) error {
					if _, ok := m.(wire.Notification); ok {
						n++
						time.Sleep(100 * time.Second) //nolint:forbidigo // the bubble's clock
					}
					return nil
				})
				if n != 2 {
					s.t.Errorf("%d notifications, want 2", n)
				}
			})
		})
	}
}

// The server's goodbyes: the stream comes back by itself.
func TestClient_Stream_Goodbye(t *testing.T) {
	bubble(t, func(s *server) {
		s.socket = script(func(_ context.Context, conn *websocket.Conn) {
			_ = conn.Close(4408, "slow consumer")
		})
		time.AfterFunc(2*time.Second, func() {
			s.mu.Lock()
			s.socket = nil
			s.mu.Unlock()
		})
		f, _ := follow(s.t, s, 10*time.Second, all(), client.StreamOptions{Cursor: s.hub.Cursor().String()})
		if len(f.errs) == 0 || !strings.Contains(f.errs[0], "slow consumer") {
			s.t.Errorf("lost: %q", f.errs)
		}
	})
}

// events serves a fixed event stream, once; then the hub's.
func (s *server) events(body string) {
	s.socket = func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.socket = nil
		s.mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, body)
	}
}

// What a cut connection leaves of an event is not an event, and its id no cursor.
func TestClient_Stream_SSE(t *testing.T) {
	tests := map[string]struct {
		rest string // after the welcome
		crlf bool
		want []string
	}{
		"Cut":          {rest: "id: bogus.9\ndata: {\"type\":\"notif"},
		"CutInID":      {rest: "id: bog"},
		"CutBeforeEnd": {rest: "id: bogus.9\ndata: {\"type\":\"bye\",\"reason\":\"slow_consumer\"}\n"},
		"Bye":          {rest: "event: bye\ndata: {\"type\":\"bye\",\"reason\":\"server_shutdown\"}\n\n", want: []string{"bye server_shutdown"}},
		"CRLF":         {crlf: true},
		"CleanEnd":     {},
		"Undecodable":  {rest: "data: nothing\n\n", want: []string{"gap undecodable_frame"}},
		"SeveralLines": {rest: "data: {\"type\":\"bye\",\ndata: \"reason\":\"slow_consumer\"}\n\n", want: []string{"bye slow_consumer"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				cursor := s.hub.Cursor().String()
				body := "event: welcome\nid: " + cursor + "\ndata: {\"type\":\"welcome\",\"mode\":\"live\",\"cursor\":\"" + cursor + "\"}\n\n" + tt.rest
				if tt.crlf {
					body = strings.ReplaceAll(body, "\n", "\r\n")
				}
				s.events(body)
				time.AfterFunc(100*time.Millisecond, note(s, 1)) // before the stream is back
				f, _ := follow(s.t, s, 20*time.Second, all(), client.StreamOptions{Transport: client.SSE})
				if diff := cmp.Diff(append(tt.want, `{"n":1}`), f.frames); diff != "" {
					s.t.Errorf("frames (-want +got):\n%s", diff)
				}
				if len(f.lost) != 1 {
					s.t.Errorf("lost %q", f.errs)
				}
				if subs := s.subscriptions(); len(subs) != 1 || subs[0].Cursor == nil || *subs[0].Cursor != cursor {
					s.t.Errorf("came back with %+v, want cursor %s", subs, cursor)
				}
			})
		})
	}
}

// A stream stays away for as long as the server asks.
func TestClient_Stream_Retry(t *testing.T) {
	bubble(t, func(s *server) {
		s.events("retry: 2700\n\n")
		f, _ := follow(s.t, s, 10*time.Second, all(), client.StreamOptions{Transport: client.SSE})
		if diff := cmp.Diff([]time.Duration{2700 * time.Millisecond}, f.lost); diff != "" {
			s.t.Errorf("delays (-want +got):\n%s", diff)
		}
	})
}

// Bodies far beyond 64 kB travel on both transports, over real sockets.
func TestClient_Stream_LargeFrames(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, false)
			cursor := s.hub.Cursor().String()
			large := fmt.Sprintf(`{"x":%q}`, strings.Repeat("y", 2<<20))
			s.publish("execution_status_changed", large)
			found := errors.New("found")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := s.client(t).Stream(ctx, all(), client.StreamOptions{Transport: transport, Cursor: cursor}, func(m wire.ServerMessage) error {
				if n, ok := m.(wire.Notification); ok && string(n.Payload) == large {
					return found
				}
				return nil
			})
			if !errors.Is(err, found) {
				t.Error(err)
			}
		})
	}
}

func TestClient_Stream_NoFilter(t *testing.T) {
	s := newServer(t, false)
	if err := s.client(t).Stream(t.Context(), nil, client.StreamOptions{}, nil); err == nil {
		t.Error("no error")
	}
}
