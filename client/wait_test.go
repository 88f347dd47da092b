package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"attune/client"
	"attune/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is what a wait told, in a form that reads well in a diff.
type told []string

func (l *told) add(e client.Event) {
	switch e := e.(type) {
	case client.Connected:
		*l = append(*l, "connected")
	case client.Session:
		*l = append(*l, "session "+e.ID)
	case client.Subscribed:
		*l = append(*l, "subscribed "+e.Filter)
	case client.Notified:
		*l = append(*l, "notified "+string(e.Status))
	case client.Read:
		*l = append(*l, "read "+string(e.Status))
	case client.Missed:
		*l = append(*l, "missed "+string(e.Reason))
	case client.ModeChanged:
		*l = append(*l, "mode "+string(e.Mode))
	case client.Lost:
		*l = append(*l, "lost")
	case client.Polling:
		*l = append(*l, "polling")
	case client.ReadFailed:
		*l = append(*l, "read failed")
	}
}

func (l *told) has(line string) bool { return slices.Contains(*l, line) }

// outcome is what a wait came to.
type outcome struct {
	e    wire.Execution
	err  error
	told told
	took time.Duration
}

func wait(ctx context.Context, t *testing.T, s *server, opts client.WaitOptions) outcome {
	t.Helper()
	var o outcome
	opts.Progress = o.told.add
	started := time.Now()
	o.e, o.err = s.client(t).Wait(ctx, executionID, opts)
	o.took = time.Since(started)
	return o
}

// completed fails the test unless the wait saw the execution complete within most.
func (o outcome) completed(t *testing.T, most time.Duration) {
	t.Helper()
	if o.err != nil || o.e.Status.Canonical() != wire.StatusCompleted {
		t.Fatalf("got status %q and error %v, want completed; told %q", o.e.Status, o.err, o.told)
	}
	if o.took > most {
		t.Errorf("took %v, want at most %v; told %q", o.took, most, o.told)
	}
}

// transcript is what a wait tells that nothing disturbs.
func transcript() told {
	return told{
		"connected", "session client_1", "subscribed entity:execution:51",
		"notified requested", "notified scheduled", "notified running", "notified completed",
	}
}

// A terminal status may be reached in any gap of the sequence; none may hide it, and
// the changes are told all the same.
func TestClient_Wait_TerminalInEachGap(t *testing.T) {
	for _, p := range []point{beforeAll, onConnect, onSubscribe, onSubscribed, onRead, onReadAnswer, afterTheStart} {
		t.Run(string(p), func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				end := func() {
					for _, status := range []wire.Status{wire.StatusScheduled, wire.StatusRunning, wire.StatusCompleted} {
						s.change(status)
					}
				}
				cursor := s.create()
				most := 100 * time.Millisecond
				switch p { //nolint:exhaustive // the others are hooks
				case beforeAll:
					end()
				case afterTheStart:
					time.AfterFunc(5*time.Second, end)
					most += 5 * time.Second
				default:
					s.at[p] = end
				}
				o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute, Cursor: cursor})
				o.completed(t, most)
				if diff := cmp.Diff(transcript(), o.told); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
				if got := string(o.e.Result); got != `{"message":"Hello!"}` {
					t.Errorf("result %s", got)
				}
			})
		})
		t.Run(string(p)+"/WithoutCursor", func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				end := func() { s.change(wire.StatusCompleted) }
				most := 150 * time.Millisecond
				switch p { //nolint:exhaustive // the others are hooks
				case beforeAll:
					end()
				case afterTheStart:
					time.AfterFunc(5*time.Second, end)
					most += 5 * time.Second
				default:
					s.at[p] = end
				}
				wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute}).completed(t, most)
			})
		})
	}
}

func TestClient_Wait_Order(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		var order []point
		for _, p := range []point{onConnect, onSubscribe, onSubscribed, onRead} {
			s.at[p] = func() {
				order = append(order, p)
				if p == onRead {
					time.AfterFunc(time.Second, func() { s.change(wire.StatusCompleted) })
				}
			}
		}
		cursor := s.create()
		wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute, Cursor: cursor}).completed(t, 2*time.Second)
		if diff := cmp.Diff([]point{onConnect, onSubscribe, onSubscribed, onRead}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]wire.Subscribe{{Filter: "entity:execution:51", Cursor: &cursor}}, s.subscriptions()); diff != "" {
			t.Errorf("subscribed (-want +got):\n%s", diff)
		}
	})
}

// The server acknowledges and delivers nothing: the row is read every 15 s.
func TestClient_Wait_DeafServer(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.deaf = true
		cursor := s.create()
		time.AfterFunc(3*time.Second, func() { s.change(wire.StatusCompleted) })
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: 5 * time.Minute, Cursor: cursor})
		o.completed(t, 15*time.Second+200*time.Millisecond)
		if !o.told.has("read completed") {
			t.Errorf("told %q, want the row's status", o.told)
		}
		if diff := cmp.Diff([]time.Duration{0, 15 * time.Second}, s.readTimes()); diff != "" {
			t.Errorf("reads (-want +got):\n%s", diff)
		}
	})
}

// The server takes the subscription and says nothing at all.
func TestClient_Wait_NeverAcknowledged(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.mute = true
		time.AfterFunc(30*time.Second, func() { s.change(wire.StatusCompleted) })
		wait(t.Context(), t, s, client.WaitOptions{Timeout: 5 * time.Minute}).completed(t, 32*time.Second)
		if n := len(s.socketTimes()); n < 2 {
			t.Errorf("%d connections, want another after the first was not acknowledged", n)
		}
	})
}

// With the row terminal already and the replay on its way, the wait gives it 1 s.
func TestClient_Wait_ReplayNeverComes(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.deaf = true
		cursor := s.create()
		s.change(wire.StatusCompleted)
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute, Cursor: cursor})
		o.completed(t, time.Second)
		if o.took != time.Second {
			t.Errorf("took %v, want 1 s", o.took)
		}
	})
}

// A gap in place of the replay: there is nothing to wait for.
func TestClient_Wait_ReplayLost(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.change(wire.StatusCompleted)
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute, Cursor: "another.7"})
		o.completed(t, 100*time.Millisecond)
		if !o.told.has("missed cursor_unknown") || !o.told.has("read completed") {
			t.Errorf("told %q", o.told)
		}
	})
}

func TestClient_Wait_OverAlready(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.change(wire.StatusCompleted)
		wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute}).completed(t, 0)
	})
}

func TestClient_Wait_WebSocketDropped(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		cursor := s.create()
		time.AfterFunc(1*time.Second, func() { s.change(wire.StatusScheduled) })
		time.AfterFunc(2*time.Second, func() {
			s.drop()
			s.change(wire.StatusRunning) // while nobody is connected
		})
		time.AfterFunc(10*time.Second, func() { s.change(wire.StatusCompleted) })
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute, Cursor: cursor})
		o.completed(t, 10*time.Second)
		want := told{
			"connected", "session client_1", "subscribed entity:execution:51", "notified requested", "notified scheduled",
			"lost", "read running",
			"connected", "session client_2", "subscribed entity:execution:51", "notified running", "notified completed",
		}
		if diff := cmp.Diff(want, o.told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		subs := s.subscriptions()
		if len(subs) != 2 || subs[1].Cursor == nil || *subs[1].Cursor == cursor {
			t.Errorf("subscriptions %+v, want a second with the last cursor", subs)
		}
	})
}

// Without a WebSocket the row is read from the start, more and more slowly.
func TestClient_Wait_WebSocketRefused(t *testing.T) {
	refusals := map[string]http.HandlerFunc{
		"NotFound":    refuse(http.StatusNotFound),
		"Unavailable": refuse(http.StatusServiceUnavailable),
		"NoUpgrade":   refuse(http.StatusOK),
		"Cut": func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
	}
	for name, refusal := range refusals {
		for _, timeout := range []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, time.Minute} {
			t.Run(fmt.Sprintf("%s/%v", name, timeout), func(t *testing.T) {
				bubble(t, func(s *server) {
					t := s.t
					s.socket = refusal
					time.AfterFunc(timeout*2/3, func() { s.change(wire.StatusCompleted) })
					o := wait(t.Context(), t, s, client.WaitOptions{Timeout: timeout})
					o.completed(t, min(timeout*2/3+2*time.Second, timeout))
				})
			})
			t.Run(fmt.Sprintf("%s/%v/StillRunning", name, timeout), func(t *testing.T) {
				bubble(t, func(s *server) {
					t := s.t
					s.socket = refusal
					s.change(wire.StatusRunning)
					o := wait(t.Context(), t, s, client.WaitOptions{Timeout: timeout})
					if !errors.Is(o.err, client.ErrStillRunning) || o.took != timeout || o.e.Status != wire.StatusRunning {
						t.Errorf("got %v with status %q after %v", o.err, o.e.Status, o.took)
					}
					reads := s.readTimes()
					if reads[0] != 0 || reads[len(reads)-1] != timeout {
						t.Errorf("reads at %v, want the first at once and the last at the end", reads)
					}
					for i := range len(reads) - 1 {
						if d := reads[i+1] - reads[i]; d > 2*time.Second {
							t.Errorf("reads at %v: %v apart", reads, d)
						}
					}
				})
			})
		}
	}
}

// A wait of up to 10 s belongs to polling, at 500 ms growing by half to 2 s.
func TestClient_Wait_Polling(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: client.MinPollBudget})
		if !errors.Is(o.err, client.ErrStillRunning) {
			t.Error(o.err)
		}
		want := []time.Duration{0, 500, 1250, 2375, 4063, 6063, 8063, 10000}
		var got []time.Duration
		for _, d := range s.readTimes() {
			got = append(got, d.Round(time.Millisecond)/time.Millisecond)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reads, ms (-want +got):\n%s", diff)
		}
		if n := len(s.socketTimes()); n != 0 {
			t.Errorf("%d WebSockets, want none", n)
		}
	})
}

// The last 10 s belong to polling, whatever the WebSocket does.
func TestClient_Wait_PollBudget(t *testing.T) {
	bubble(t, func(s *server) {
		t := s.t
		s.deaf = true
		time.AfterFunc(51*time.Second, func() { s.change(wire.StatusCompleted) })
		o := wait(t.Context(), t, s, client.WaitOptions{Timeout: time.Minute})
		o.completed(t, 53*time.Second)
		if !o.told.has("polling") {
			t.Errorf("told %q", o.told)
		}
	})
}

func TestClient_Wait_LooksOnce(t *testing.T) {
	for status, want := range map[wire.Status]error{wire.StatusRunning: client.ErrStillRunning, wire.StatusCompleted: nil} {
		t.Run(string(status), func(t *testing.T) {
			bubble(t, func(s *server) {
				t := s.t
				s.change(status)
				o := wait(t.Context(), t, s, client.WaitOptions{})
				if !errors.Is(o.err, want) || o.e.Status != status || len(s.readTimes()) != 1 || len(s.socketTimes()) != 0 {
					t.Errorf("got %v, %q, %d reads, %d WebSockets", o.err, o.e.Status, len(s.readTimes()), len(s.socketTimes()))
				}
			})
		})
	}
}
