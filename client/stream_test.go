package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	case wire.Welcome, wire.Subscribed, wire.Unsubscribed, wire.Pong, wire.Authenticated:
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
