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

// transports are the ways in which a stream travels.
func transports() map[string]client.Transport {
	return map[string]client.Transport{"WebSocket": client.WebSocket, "SSE": client.SSE}
}

// following is a stream that a test follows.
type following struct {
	frames []string // notifications by status, gaps, the rest by name
	lost   []time.Duration
	errs   []string
}

func (f *following) add(m wire.ServerMessage) error {
	switch m := m.(type) {
	case wire.Notification:
		f.frames = append(f.frames, string(m.Payload))
	case wire.Gap:
		f.frames = append(f.frames, "gap "+string(m.Reason))
	case wire.Bye:
		f.frames = append(f.frames, "bye "+string(m.Reason))
	case wire.SourceStatus:
		f.frames = append(f.frames, "status "+string(m.Mode))
	case *wire.Error:
		f.frames = append(f.frames, "error "+string(m.Code))
	case wire.Welcome, wire.Subscribed, wire.Unsubscribed, wire.Pong:
	}
	return nil
}

// follow follows a stream for d and returns what it brought.
func follow(t *testing.T, s *server, d time.Duration, filters []string, opts client.StreamOptions) (following, error) {
	t.Helper()
	var f following
	opts.Lost = func(err error, retry time.Duration) {
		f.lost = append(f.lost, retry)
		f.errs = append(f.errs, err.Error())
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err := s.client(t).Stream(ctx, filters, opts, f.add)
	return f, err
}

// at does things at times after the start.
func at(things map[time.Duration]func()) {
	for d, f := range things {
		time.AfterFunc(d, f)
	}
}

func note(s *server, n int) func() {
	return func() { s.publish("execution_status_changed", fmt.Sprintf(`{"n":%d}`, n)) }
}

func all() []string { return []string{"all"} }

// A dropped connection loses nothing, repeats nothing and shows no gap.
func TestClient_Stream_Resumes(t *testing.T) {
	for name, transport := range transports() {
		for _, filters := range [][]string{all(), {"entity:execution:51", "entity_type:inquiry", "entity:execution:51"}} {
			t.Run(fmt.Sprintf("%s/%dFilters", name, len(filters)), func(t *testing.T) {
				bubble(t, func(s *server) {
					t := s.t
					at(map[time.Duration]func(){
						1 * time.Second: note(s, 1),
						2 * time.Second: func() {
							s.drop()
							note(s, 2)()
						},
						5 * time.Second: note(s, 3),
						6 * time.Second: func() {
							note(s, 4)()
							s.drop()
							note(s, 5)()
						},
						20 * time.Second: note(s, 6),
					})
					f, err := follow(t, s, time.Minute, filters, client.StreamOptions{Transport: transport})
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					if diff := cmp.Diff([]string{`{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`, `{"n":5}`, `{"n":6}`}, f.frames); diff != "" {
						t.Errorf("frames (-want +got):\n%s", diff)
					}
					if len(f.lost) != 2 {
						t.Errorf("lost %q, want two", f.errs)
					}
				})
			})
		}
	}
}

// The first connection starts from the caller's cursor.
func TestClient_Stream_FromCursor(t *testing.T) {
	for name, transport := range transports() {
		for _, filters := range [][]string{all(), {"entity:execution:51", "entity_type:inquiry"}} {
			t.Run(fmt.Sprintf("%s/%dFilters", name, len(filters)), func(t *testing.T) {
				bubble(t, func(s *server) {
					cursor := s.hub.Cursor().String()
					note(s, 1)()
					note(s, 2)()
					f, _ := follow(s.t, s, time.Second, filters, client.StreamOptions{Transport: transport, Cursor: cursor})
					if diff := cmp.Diff([]string{`{"n":1}`, `{"n":2}`}, f.frames); diff != "" {
						s.t.Errorf("frames (-want +got):\n%s", diff)
					}
				})
			})
		}
	}
}

func TestClient_Stream_Gaps(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				at(map[time.Duration]func(){
					1 * time.Second: func() { s.hub.Gap(wire.GapListenerReconnected) },
					2 * time.Second: s.drop, // resumes from the gap's own cursor
					3 * time.Second: func() { s.hub.SetMode(wire.ModeDegraded) },
					5 * time.Second: note(s, 1),
				})
				f, _ := follow(s.t, s, 10*time.Second, all(), client.StreamOptions{Transport: transport, Cursor: "another.5"})
				want := []string{"gap cursor_unknown", "gap listener_reconnected", "status degraded", `{"n":1}`}
				if transport == client.SSE { // retry: 1500
					want = []string{"gap cursor_unknown", "gap listener_reconnected", `{"n":1}`}
				}
				if diff := cmp.Diff(want, f.frames); diff != "" {
					s.t.Errorf("frames (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A connection lost between the acknowledgement of a resume and the gap that belongs
// to it must not resume from after the gap.
func TestClient_Stream_LostBeforeGap(t *testing.T) {
	bubble(t, func(s *server) {
		n := 0
		s.socket = func(w http.ResponseWriter, r *http.Request) {
			n++
			if n > 1 {
				s.mu.Lock()
				s.socket = nil
				s.mu.Unlock()
				s.serveSocket(w, r)
				return
			}
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			_, _, _ = conn.Read(context.Background())
			now := s.hub.Cursor()
			_ = conn.Write(context.Background(), websocket.MessageText, wire.EncodeServerMessage(wire.Subscribed{Filter: "all", Cursor: now}))
			_ = conn.CloseNow()
		}
		f, _ := follow(s.t, s, 5*time.Second, all(), client.StreamOptions{Cursor: "another.5"})
		if diff := cmp.Diff([]string{"gap cursor_unknown"}, f.frames); diff != "" {
			s.t.Errorf("frames (-want +got):\n%s", diff)
		}
	})
}

// A server without cursors cannot be resumed: after each new connection there is a gap.
func TestClient_Stream_WithoutCursor(t *testing.T) {
	bubble(t, func(s *server) {
		n := 0
		s.socket = script(func(_ context.Context, conn *websocket.Conn) {
			if n++; n < 3 {
				_ = conn.CloseNow()
			}
		})
		f, _ := follow(s.t, s, 10*time.Second, all(), client.StreamOptions{})
		if diff := cmp.Diff([]string{"gap reconnected_without_cursor", "gap reconnected_without_cursor"}, f.frames); diff != "" {
			s.t.Errorf("frames (-want +got):\n%s", diff)
		}
	})
}

// Before the first acknowledgement there is nothing to lose.
func TestClient_Stream_ConnectsLate(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				s.socket = refuse(http.StatusServiceUnavailable)
				at(map[time.Duration]func(){
					20 * time.Second: func() {
						s.mu.Lock()
						defer s.mu.Unlock()
						s.socket = nil
					},
					40 * time.Second: note(s, 1),
				})
				f, _ := follow(s.t, s, time.Minute, all(), client.StreamOptions{Transport: transport})
				if diff := cmp.Diff([]string{`{"n":1}`}, f.frames); diff != "" {
					s.t.Errorf("frames (-want +got):\n%s", diff)
				}
				for i, d := range f.lost {
					if ceiling := min(250*time.Millisecond<<i, 10*time.Second); d < ceiling/2 || d > ceiling {
						s.t.Errorf("delay %d is %v, want %v to %v", i, d, ceiling/2, ceiling)
					}
				}
			})
		})
	}
}

// Delays grow while connections do not hold and fall back after one that did.
func TestClient_Stream_BackoffResets(t *testing.T) {
	bubble(t, func(s *server) {
		at(map[time.Duration]func(){
			1 * time.Second: s.drop, 2 * time.Second: s.drop, 3 * time.Second: s.drop, 4 * time.Second: s.drop,
			30 * time.Second: s.drop,
		})
		f, _ := follow(s.t, s, time.Minute, all(), client.StreamOptions{})
		if len(f.lost) < 3 {
			s.t.Fatalf("lost %v", f.lost)
		}
		last := len(f.lost) - 1
		if f.lost[last-1] < 500*time.Millisecond/2 || f.lost[last] > 250*time.Millisecond {
			s.t.Errorf("delays %v: want growth, then the shortest", f.lost)
		}
	})
}

// What the server refuses for good ends the stream.
func TestClient_Stream_Refused(t *testing.T) {
	for name, transport := range transports() {
		for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound} {
			t.Run(fmt.Sprintf("%s/%d", name, status), func(t *testing.T) {
				bubble(t, func(s *server) {
					s.socket = func(w http.ResponseWriter, _ *http.Request) {
						problem(w, status, wire.CodeForbidden, "not for you")
					}
					f, err := follow(s.t, s, time.Minute, all(), client.StreamOptions{Transport: transport})
					refused, ok := errors.AsType[*client.StatusError](err)
					if !ok || refused.Status != status || refused.Problem == nil || refused.Problem.Message != "not for you" {
						s.t.Errorf("got %v", err)
					}
					if len(f.lost) != 0 {
						s.t.Errorf("retried: %v", f.errs)
					}
				})
			})
		}
	}
}

func TestClient_Stream_FilterRefused(t *testing.T) {
	bubble(t, func(s *server) {
		_, err := follow(s.t, s, time.Minute, []string{"nonsense"}, client.StreamOptions{})
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.CodeInvalidFilter {
			s.t.Errorf("got %v", err)
		}
	})
}

func TestClient_Stream_HandlerFails(t *testing.T) {
	for name, transport := range transports() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				failure := errors.New("disk full")
				at(map[time.Duration]func(){time.Second: note(s, 1), 2 * time.Second: note(s, 2)})
				n := 0
				err := s.client(s.t).Stream(s.t.Context(), all(), client.StreamOptions{Transport: transport}, func(m wire.ServerMessage) error {
					if _, ok := m.(wire.Notification); ok {
						n++
						return failure
					}
					return nil
				})
				if !errors.Is(err, failure) || n != 1 {
					s.t.Errorf("got %v after %d notifications", err, n)
				}
			})
		})
	}
}

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
