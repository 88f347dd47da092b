package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"attune/client"
	"attune/wire"
)

// Frames that cannot be understood make the wait read the row: one of them may have
// been the one that it waits for.
func TestClient_Wait_Frames(t *testing.T) {
	notification := `"notification_type":"execution_status_changed","entity_type":"execution","entity_id":51,"user_id":null,` +
		`"timestamp":"2026-03-03T19:42:41.123456Z","cursor":"c.7"`
	tests := map[string]struct {
		frame string
		kind  websocket.MessageType
		reads bool
	}{
		"WithoutType":       {`{` + notification + `,"payload":{"id":51,"status":"completed"}}`, websocket.MessageText, true},
		"WithoutStatus":     {`{"type":"notification",` + notification + `,"payload":{"id":51}}`, websocket.MessageText, true},
		"StatusNoString":    {`{"type":"notification",` + notification + `,"payload":{"id":51,"status":{"a":1}}}`, websocket.MessageText, true},
		"Garbage":           {`}{ nothing`, websocket.MessageText, true},
		"Empty":             {``, websocket.MessageText, true},
		"Binary":            {"\x00\x01\x02", websocket.MessageBinary, true},
		"Gap":               {`{"type":"gap","reason":"listener_reconnected","cursor":"c.8"}`, websocket.MessageText, true},
		"GapWithoutCursor":  {`{"type":"gap","reason":"source_overflow"}`, websocket.MessageText, true},
		"Large":             {`{"type":"notification",` + notification + `,"payload":{"x":"` + string(make4MiB()) + `"}}`, websocket.MessageText, true},
		"UnknownType":       {`{"type":"weather","sun":true}`, websocket.MessageText, false},
		"UnknownStatus":     {`{"type":"notification",` + notification + `,"payload":{"id":51,"status":"paused"}}`, websocket.MessageText, false},
		"UnknownStatusNull": {`{"type":"notification",` + notification + `,"payload":null}`, websocket.MessageText, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.socket = script(func(ctx context.Context, conn *websocket.Conn) {
					time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
					s.mu.Lock()
					s.row.Status = wire.StatusCompleted
					s.mu.Unlock()
					_ = conn.Write(ctx, tt.kind, []byte(tt.frame))
				})
				o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute})
				most := 15*time.Second + 100*time.Millisecond
				if tt.reads {
					most = time.Second + 100*time.Millisecond
				}
				o.completed(t, most)
				if !tt.reads && o.took < 15*time.Second {
					t.Errorf("took %v: read without a reason", o.took)
				}
			})
		})
	}
}

func make4MiB() []byte {
	b := make([]byte, 4<<20)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

// script accepts a WebSocket, welcomes, acknowledges the first subscription and then
// does as told, until the client goes.
func script(then func(context.Context, *websocket.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow() //nolint:errcheck // it has ended
		ctx := context.Background()
		_ = conn.Write(ctx, websocket.MessageText, []byte(`{"type":"welcome","client_id":"client_1","message":"hello"}`))
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return
		}
		m, _ := wire.DecodeClientMessage(frame)
		if sub, ok := m.(wire.Subscribe); ok {
			_ = conn.Write(ctx, websocket.MessageText, []byte(`{"type":"subscribed","filter":"`+sub.Filter+`"}`))
		}
		gone := conn.CloseRead(ctx)
		then(ctx, conn)
		<-gone.Done()
	}
}

func TestClient_Wait_ForeignSpelling(t *testing.T) {
	for _, status := range []wire.Status{"succeeded", "canceled", "timed_out"} {
		t.Run(string(status), func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				time.AfterFunc(time.Second, func() { s.change(status) })
				o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute})
				if o.err != nil || o.e.Status != status || o.took != time.Second {
					t.Errorf("got %v, %q after %v", o.err, o.e.Status, o.took)
				}
			})
		})
	}
}

// While the server receives no notifications the row is read as if there were none.
func TestClient_Wait_Degraded(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.deaf = true
		time.AfterFunc(5*time.Second, func() { s.hub.SetMode(wire.ModeDegraded) })
		time.AfterFunc(30*time.Second, func() { s.change(wire.StatusCompleted) })
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: 5 * time.Minute})
		o.completed(t, 32*time.Second+100*time.Millisecond)
		if !o.told.has("mode degraded") {
			t.Errorf("told %q", o.told)
		}
	})
}

// What the server refuses for good ends the wait at once.
func TestClient_Wait_Refused(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusNotImplemented} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.read = refuse(status)
				o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute})
				refused, ok := errors.AsType[*client.StatusError](o.err)
				if !ok || refused.Status != status || o.took != 0 || len(s.readTimes()) != 1 {
					t.Errorf("got %v after %v and %d reads", o.err, o.took, len(s.readTimes()))
				}
			})
		})
	}
}

// What may pass is tried again.
func TestClient_Wait_Retried(t *testing.T) {
	tests := map[string]struct {
		read http.HandlerFunc
		most time.Duration
	}{
		"500":   {refuse(http.StatusInternalServerError), time.Second},
		"502":   {refuse(http.StatusBadGateway), time.Second},
		"429":   {refuse(http.StatusTooManyRequests), time.Second},
		"HTML":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, time.Second},
		"Hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 11 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.change(wire.StatusCompleted)
				s.socket = refuse(http.StatusServiceUnavailable)
				s.read = func(w http.ResponseWriter, r *http.Request) {
					s.mu.Lock()
					s.read = nil
					s.mu.Unlock()
					tt.read(w, r)
				}
				wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute}).completed(t, tt.most)
			})
		})
	}
}

// When the last look fails nobody knows how the execution stands.
func TestClient_Wait_LastLookFails(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.read = refuse(http.StatusBadGateway)
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: 5 * time.Second})
		refused, ok := errors.AsType[*client.StatusError](o.err)
		if !ok || refused.Status != http.StatusBadGateway || o.took != 5*time.Second {
			t.Errorf("got %v after %v", o.err, o.took)
		}
	})
}

func TestClient_Wait_ServerGone(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		_ = s.net.Close()
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: 20 * time.Second})
		if o.err == nil || errors.Is(o.err, client.ErrStillRunning) || o.took != 20*time.Second {
			t.Errorf("got %v after %v", o.err, o.took)
		}
	})
}

func TestClient_Wait_Detached(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.change(wire.StatusRunning)
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("ctrl-c")
		time.AfterFunc(3*time.Second, func() { cancel(reason) })
		o := wait(ctx, t, s, client.WaitOptions{Timeout: time.Minute})
		if !errors.Is(o.err, reason) || o.took != 3*time.Second || o.e.Status != wire.StatusRunning {
			t.Errorf("got %v, %q after %v", o.err, o.e.Status, o.took)
		}
	})
}

// A subscription that the server refuses leaves polling.
func TestClient_Wait_SubscriptionRefused(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.socket = func(w http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer conn.CloseNow() //nolint:errcheck // it has ended
			_ = conn.Write(context.Background(), websocket.MessageText, wire.EncodeServerMessage(&wire.Error{Code: wire.CodeForbidden}))
			_, _, _ = conn.Read(context.Background())
			_, _, _ = conn.Read(context.Background())
		}
		time.AfterFunc(20*time.Second, func() { s.change(wire.StatusCompleted) })
		wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute}).completed(t, 22*time.Second)
		if n := len(s.socketTimes()); n != 1 {
			t.Errorf("%d WebSockets, want one", n)
		}
	})
}
