package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/client"
	"attune/wire"
)

// answerOrder answers as the server does for a row of a watched table.
func answerOrder(w http.ResponseWriter, order json.RawMessage) {
	w.Header().Set("Attune-Cursor", "c.1")
	if order == nil {
		problem(w, http.StatusNotFound, wire.CodeNotFound, "orders 42 was not found")
		return
	}
	_ = json.NewEncoder(w).Encode(wire.Entity{EntityType: "orders", EntityID: wire.IntID(42), Payload: order})
}

// set writes the order, "" deletes it, and tells the subscribers as the triggers do.
func (s *server) set(status string) {
	s.mu.Lock()
	op, was := "changed", s.order
	if s.order == nil {
		op = "created"
	}
	s.order = json.RawMessage(fmt.Sprintf(`{"id":42,"status":%q}`, status))
	if status == "" {
		op, s.order = "deleted", nil
	}
	payload := s.order
	if payload == nil {
		payload = was
	}
	s.mu.Unlock()
	s.tellOrder("orders_"+op, `{"op":"`+op+`",`+string(payload[1:]))
}

func (s *server) tellOrder(kind, payload string) {
	s.hub.Publish(wire.Notification{
		NotificationType: kind, EntityType: "orders", EntityID: wire.IntID(42), Payload: json.RawMessage(payload), Timestamp: time.Now(),
	})
}

// put writes the order, and nobody is told.
func (s *server) put(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = json.RawMessage(fmt.Sprintf(`{"id":42,"status":%q}`, status))
	if status == "" {
		s.order = nil
	}
}

// shipped is a condition as a command line would make it.
func shipped(payload json.RawMessage) (bool, error) {
	var row struct {
		Status *string `json:"status"`
	}
	if payload == nil {
		return false, nil
	}
	if err := json.Unmarshal(payload, &row); err != nil || row.Status == nil {
		return false, errors.New("no status")
	}
	return *row.Status == "shipped", nil
}

func deleted(payload json.RawMessage) (bool, error) { return payload == nil, nil }

// entityOutcome is what a wait for the order came to.
type entityOutcome struct {
	payload string
	err     error
	told    []string // payloads, by notification or row
	took    time.Duration
}

func waitOrder(ctx context.Context, t *testing.T, s *server, until func(json.RawMessage) (bool, error), opts client.WaitOptions) entityOutcome {
	t.Helper()
	var o entityOutcome
	opts.Progress = func(e client.Event) {
		switch e := e.(type) {
		case client.Notified:
			o.told = append(o.told, e.NotificationType+" "+string(e.Payload))
		case client.Read:
			o.told = append(o.told, "read "+string(e.Payload))
		case client.Connected, client.Session, client.Subscribed, client.Missed, client.ModeChanged, client.Lost, client.Polling, client.ReadFailed:
		}
	}
	if opts.Timeout == 0 {
		opts.Timeout = time.Minute
	}
	started := time.Now()
	e, err := s.client(t).WaitEntity(ctx, "orders", "42", until, opts)
	o.payload, o.err, o.took = string(e.Payload), err, time.Since(started)
	if err == nil && (e.EntityType != "orders" || e.EntityID != wire.IntID(42)) {
		t.Errorf("got %+v", e)
	}
	return o
}

// met fails the test unless the condition was met within most.
func (o entityOutcome) met(t *testing.T, payload string, most time.Duration) {
	t.Helper()
	if o.err != nil || strings.Replace(strings.Replace(o.payload, `"op":"changed",`, "", 1), `"op":"created",`, "", 1) != payload {
		t.Fatalf("got %s and error %v, want %s; told %q", o.payload, o.err, payload, o.told)
	}
	if o.took > most {
		t.Errorf("took %v, want at most %v; told %q", o.took, most, o.told)
	}
}

const (
	shippedRow = `{"id":42,"status":"shipped"}`
	paidRow    = `{"id":42,"status":"paid"}`
)

// What is waited for may come in any gap of the sequence; none may hide it.
func TestClient_WaitEntity_ReachedInEachGap(t *testing.T) {
	for _, p := range []point{beforeAll, onConnect, onSubscribe, onSubscribed, onRead, onReadAnswer, afterTheStart} {
		for name, change := range map[string]func(*server){
			"Shipped": func(s *server) { s.set("shipped") },
			"Deleted": func(s *server) { s.set("") },
		} {
			t.Run(string(p)+"/"+name, func(t *testing.T) {
				bubble(t, func(s *server) {
					t := s.t
					s.put("paid")
					most := 150 * time.Millisecond
					switch p { //nolint:exhaustive // the others are hooks
					case beforeAll:
						change(s)
					case afterTheStart:
						time.AfterFunc(5*time.Second, func() { change(s) })
						most += 5 * time.Second
					default:
						s.at[p] = func() { change(s) }
					}
					until, want := shipped, shippedRow
					if name == "Deleted" {
						until, want = deleted, ""
					}
					waitOrder(t.Context(), t, s, until, client.WaitOptions{}).met(t, want, most)
				})
			})
		}
	}
}

// Whatever a server or a network does, the outcome is as late as for executions.
func TestClient_WaitEntity_Faults(t *testing.T) {
	tests := map[string]struct {
		fault func(s *server)
		most  time.Duration
	}{
		"None":              {func(*server) {}, 3 * time.Second},
		"Deaf":              {func(s *server) { s.deaf = true }, 15*time.Second + 150*time.Millisecond},
		"NeverAcknowledged": {func(s *server) { s.mute = true }, 5 * time.Second},
		"NoWebSocket":       {func(s *server) { s.socket = refuse(http.StatusNotFound) }, 5 * time.Second},
		"Dropped":           {func(s *server) { time.AfterFunc(2990*time.Millisecond, s.drop) }, 5 * time.Second},
		"Degraded":          {func(s *server) { s.deaf = true; s.hub.SetMode(wire.ModeDegraded) }, 5 * time.Second},
		"Gap": {func(s *server) {
			s.deaf = true
			time.AfterFunc(4*time.Second, func() { s.hub.Gap(wire.GapListenerReconnected) })
		}, 4*time.Second + 150*time.Millisecond},
		"ReadsFail": {func(s *server) { s.read = refuse(http.StatusBadGateway) }, 3 * time.Second},
		"ReadsFailAndDeaf": {func(s *server) {
			s.deaf, s.read = true, refuse(http.StatusInternalServerError)
			time.AfterFunc(10*time.Second, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.read = nil
			})
		}, 27 * time.Second},
		"NotThatRow": {func(s *server) {
			s.read = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"entity_type":"orders","entity_id":42}`) }
		}, 3 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.put("paid")
				tt.fault(s)
				time.AfterFunc(3*time.Second, func() { s.set("shipped") })
				waitOrder(t.Context(), t, s, shipped, client.WaitOptions{}).met(t, shippedRow, tt.most)
			})
		})
	}
}

// A state that is over before the row could be read was reached all the same, also
// while nobody was connected.
func TestClient_WaitEntity_Moment(t *testing.T) {
	for name, before := range map[string]func(*server){"Connected": func(*server) {}, "Dropped": func(s *server) { s.drop() }} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.put("paid")
				time.AfterFunc(3*time.Second, func() {
					before(s)
					s.set("shipped")
					s.set("delivered")
				})
				o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{})
				o.met(t, shippedRow, 5*time.Second)
				if diff := cmp.Diff(`orders_changed {"op":"changed","id":42,"status":"shipped"}`, o.told[len(o.told)-1]); diff != "" {
					t.Errorf("told last (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestClient_WaitEntity_Deleted(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.put("paid")
		time.AfterFunc(3*time.Second, func() { s.set("") })
		o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{})
		if !errors.Is(o.err, client.ErrDeleted) || o.payload != paidRow || o.took > 3100*time.Millisecond {
			t.Errorf("got %v with %s after %v", o.err, o.payload, o.took)
		}
	})
}

// A row that is written anew in place of the old one lives on.
func TestClient_WaitEntity_Replaced(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.put("paid")
		time.AfterFunc(3*time.Second, func() {
			s.set("")
			s.set("paid")
		})
		time.AfterFunc(6*time.Second, func() { s.set("shipped") })
		waitOrder(t.Context(), t, s, shipped, client.WaitOptions{}).met(t, shippedRow, 6*time.Second)
	})
}

func TestClient_WaitEntity_NoRow(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{})
		refused, ok := errors.AsType[*client.StatusError](o.err)
		if !ok || refused.Status != http.StatusNotFound || errors.Is(o.err, client.ErrDeleted) || o.took != 0 || len(s.readTimes()) != 1 {
			t.Errorf("got %v after %v and %d reads", o.err, o.took, len(s.readTimes()))
		}
	})
}

// A row may be waited for before it exists.
func TestClient_WaitEntity_Absent(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		time.AfterFunc(3*time.Second, func() { s.set("paid") })
		time.AfterFunc(6*time.Second, func() { s.set("shipped") })
		waitOrder(t.Context(), t, s, shipped, client.WaitOptions{Absent: true}).met(t, shippedRow, 6*time.Second)
	})
	bubble(t, func(s *server) {
		t := s.t
		o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{Absent: true, Timeout: 12 * time.Second})
		if !errors.Is(o.err, client.ErrNotReached) || o.payload != "" || o.took != 12*time.Second {
			t.Errorf("got %v with %q after %v", o.err, o.payload, o.took)
		}
	})
}

// A 404 without a cursor is no look at a row: nothing was deleted.
func TestClient_WaitEntity_NotWatched(t *testing.T) {
	for name, until := range map[string]func(json.RawMessage) (bool, error){"Shipped": shipped, "Deleted": deleted} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.read = func(w http.ResponseWriter, _ *http.Request) {
					problem(w, http.StatusNotFound, wire.CodeNotFound, "not watched")
				}
				o := waitOrder(t.Context(), t, s, until, client.WaitOptions{Absent: true})
				if o.err == nil || !strings.Contains(o.err.Error(), "not watched") || len(s.readTimes()) != 1 {
					t.Errorf("got %v after %d reads", o.err, len(s.readTimes()))
				}
			})
		})
	}
}

// A notification that does not hold the row makes the wait read it.
func TestClient_WaitEntity_OtherNotifications(t *testing.T) {
	for _, payload := range []string{`{"hint":1}`, `{}`, `{"op":7}`, `{"op":"sell","status":"paid"}`, `{"status":"paid"}`} {
		t.Run(payload, func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.put("paid")
				time.AfterFunc(3*time.Second, func() {
					s.put("shipped")
					s.tellOrder("hints", payload)
				})
				waitOrder(t.Context(), t, s, shipped, client.WaitOptions{}).met(t, shippedRow, 3200*time.Millisecond)
			})
		})
	}
}

// What the condition refuses of a row ends the wait with its reason.
func TestClient_WaitEntity_ConditionRefuses(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.order = json.RawMessage(`{"id":42}`)
		o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{})
		if o.err == nil || o.err.Error() != "wait for orders 42: no status" || len(s.readTimes()) != 1 {
			t.Errorf("got %v after %d reads", o.err, len(s.readTimes()))
		}
	})
}

func TestClient_WaitEntity_TimeOver(t *testing.T) {
	for _, timeout := range []time.Duration{time.Nanosecond, 5 * time.Second, time.Minute} {
		t.Run(timeout.String(), func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.put("paid")
				o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{Timeout: timeout})
				if !errors.Is(o.err, client.ErrNotReached) || o.payload != paidRow || o.took != timeout {
					t.Errorf("got %v with %s after %v", o.err, o.payload, o.took)
				}
			})
		})
	}
}

// The row is told once, however often it is read.
func TestClient_WaitEntity_ToldOnce(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.socket = refuse(http.StatusNotFound)
		s.put("paid")
		time.AfterFunc(5*time.Second, func() { s.set("packed") })
		time.AfterFunc(9*time.Second, func() { s.set("shipped") })
		o := waitOrder(t.Context(), t, s, shipped, client.WaitOptions{})
		want := []string{"read " + paidRow, `read {"id":42,"status":"packed"}`, "read " + shippedRow}
		if diff := cmp.Diff(want, o.told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

func TestClient_WaitEntity_Detached(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.put("paid")
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("ctrl-c")
		time.AfterFunc(3*time.Second, func() { cancel(reason) })
		o := waitOrder(ctx, t, s, shipped, client.WaitOptions{})
		if !errors.Is(o.err, reason) || o.payload != paidRow || o.took != 3*time.Second {
			t.Errorf("got %v with %s after %v", o.err, o.payload, o.took)
		}
	})
}

func TestClient_WaitEntity_BadNames(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		for _, name := range [][2]string{{"or ders", "42"}, {"", "42"}, {"orders", ""}, {"orders", "a/b"}} {
			_, err := s.client(t).WaitEntity(t.Context(), name[0], name[1], shipped, client.WaitOptions{})
			if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.CodeInvalidFilter {
				t.Errorf("%q: %v", name, err)
			}
		}
		if n := len(s.readTimes()) + len(s.socketTimes()); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}
