package main_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"attune/pg/pgtest"
	"attune/wire"
)

// soon is how long a client may take to tell an end that it hears of; half a second
// is usual on a busy machine.
const soon = 5 * time.Second

// The execution ends in each gap of the sequence POST, connect, subscribe,
// acknowledgement, read: the end is seen, soon, with all that led to it.
func TestWait_TerminalInGap(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	for _, gap := range []string{"executed", "connect", "connected", "subscribe", "subscribed", "read", "answer"} {
		t.Run(gap, func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			var held atomic.Bool
			ended := make(chan struct{})
			p := newProxy(t, s, func(point string) {
				if point != gap || held.Swap(true) {
					return
				}
				defer close(ended)
				x := ofGate(t, s, g)
				if x.Status.Terminal() {
					t.Errorf("execution %d has ended before %s", x.ID, gap)
				}
				g.open()
				s.reaches(t, strconv.FormatInt(x.ID, 10), wire.StatusCompleted)
			})
			waiter := p.start(t, g.action()...)
			if code := waiter.wait(); code != 0 || !strings.Contains(waiter.stdout.String(), `"status":200`) {
				t.Errorf("exit code %d, stdout %q", code, waiter.stdout)
			}
			if !held.Load() {
				t.Fatalf("nothing passed %s", gap)
			}
			<-ended
			equal(t, "stderr", transcript(p.url, waiter.stderr.String()), []string{
				"Executing action: core.http_request",
				"Waiting for execution ID to complete...",
				"[notifier] connected to ws://SERVER/ws",
				"[notifier] session id client_N",
				"[notifier] subscribed to entity:execution:ID",
				"[notifier] execution_status_changed for execution ID — status=scheduled",
				"[notifier] execution_status_changed for execution ID — status=running",
				"[notifier] execution_status_changed for execution ID — status=completed",
				"✓ Execution ID completed",
			})
			told(t, waiter, ofGate(t, s, g), soon)
		})
	}
}

// The WebSocket breaks while the client waits.
func TestWait_Dropped(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := serveWithRunner(t, url)

	t.Run("ComesBack", func(t *testing.T) {
		t.Parallel()
		g, p := newGate(t), newProxy(t, s, nil)
		waiter := p.start(t, g.action()...)
		waiter.says(waiter.stderr, "status=running")
		p.cut()
		eventually(t, "the client is back", func() bool { return strings.Count(waiter.stderr.String(), "subscribed to") == 2 })
		g.open()
		if code := waiter.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		for _, line := range []string{"connection lost", "status=running", "[notifier] execution_status_changed for execution", "status=completed"} {
			want := 1
			if line == "[notifier] execution_status_changed for execution" {
				want = 3
			}
			if n := strings.Count(waiter.stderr.String(), line); n != want {
				t.Errorf("%d times %q in stderr, want %d", n, line, want)
			}
		}
		told(t, waiter, ofGate(t, s, g), soon)
	})

	t.Run("EndsMeanwhile", func(t *testing.T) {
		t.Parallel()
		g := newGate(t)
		var connects atomic.Int32
		ended := make(chan struct{})
		p := newProxy(t, s, func(point string) {
			if point == "connect" && connects.Add(1) == 2 {
				defer close(ended)
				g.open()
				s.reaches(t, strconv.FormatInt(ofGate(t, s, g).ID, 10), wire.StatusCompleted)
			}
		})
		waiter := p.start(t, g.action()...)
		waiter.says(waiter.stderr, "status=running")
		p.cut()
		if code := waiter.wait(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		<-ended // the client may have read the row before it was connected again
		if !strings.Contains(waiter.stderr.String(), "status=completed") {
			t.Error("the end is not told")
		}
		told(t, waiter, ofGate(t, s, g), soon)
	})

	t.Run("StaysAway", func(t *testing.T) {
		t.Parallel()
		g, p := newGate(t), newProxy(t, s, nil)
		waiter := p.start(t, g.action()...)
		waiter.says(waiter.stderr, "status=running")
		p.refusal.Store(-1)
		p.cut()
		waiter.says(waiter.stderr, "connection lost")
		g.open()
		if code := waiter.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		told(t, waiter, ofGate(t, s, g), soon)
	})

	// Behind the same address there is another server now. It follows the same log, so
	// the client's cursor counts there too.
	t.Run("OtherServer", func(t *testing.T) {
		t.Parallel()
		first := serve(t, "DATABASE_URL="+url)
		db := pgtest.Connect(t, url)
		execSQL(t, db, `INSERT INTO attune.execution (id, action_ref, status) VALUES (6000, 'slack.post', 'running')`)
		p := newProxy(t, first, nil)
		waiter := p.start(t, "execution", "wait", "6000")
		waiter.says(waiter.stderr, "subscribed to")
		p.target.Store(&s.url)
		first.signal(syscall.SIGKILL)
		eventually(t, "the client is at the other server", func() bool { return strings.Count(waiter.stderr.String(), "subscribed to") == 2 })
		execSQL(t, db, `UPDATE attune.execution SET status = 'completed', updated = now() WHERE id = 6000`)
		if code := waiter.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if strings.Contains(waiter.stderr.String(), "notifications may be missing") {
			t.Error("a gap was told, though the log has everything")
		}
		told(t, waiter, s.execution(t, "6000"), soon)
	})
}

// The server hears nothing, or says nothing, while the execution ends.
func TestWait_Deaf(t *testing.T) {
	t.Parallel()

	// The connection is fine and brings nothing: the row is read every 15 s.
	t.Run("NothingArrives", func(t *testing.T) {
		t.Parallel()
		s := serveWithRunner(t, pgtest.Database(t))
		g, p := newGate(t), newProxy(t, s, nil)
		p.deaf.Store(true)
		waiter := p.start(t, g.action()...)
		waiter.says(waiter.stderr, "subscribed to")
		g.open()
		if code := waiter.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if strings.Contains(waiter.stderr.String(), "[notifier] execution_status_changed") {
			t.Error("something arrived: nothing is tested here")
		}
		told(t, waiter, ofGate(t, s, g), 16*time.Second)
	})

	// The server's own connection is ended whenever there is one.
	t.Run("ListenerTerminated", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
		var waiters []*process
		var gates []*gate
		for range 3 {
			g := newGate(t)
			waiter := s.start(t, g.action()...)
			waiter.says(waiter.stderr, "status=running")
			waiters, gates = append(waiters, waiter), append(gates, g)
		}
		terminated, opened := 0, 0
		eventually(t, "all have ended", func() bool {
			var n int
			if err := db.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE application_name = 'attune listener' AND datname = current_database()`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			terminated += n
			if terminated > 2*opened && opened < len(gates) {
				gates[opened].open()
				opened++
			}
			for _, waiter := range waiters {
				if waiter.running() {
					return false
				}
			}
			return true
		})
		t.Logf("listener terminated %d times", terminated)
		for i, waiter := range waiters {
			if code := waiter.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			told(t, waiter, ofGate(t, s, gates[i]), 16*time.Second)
		}
	})
}

// There are no WebSockets: the row is read, for as long as the timeout says.
func TestWait_NoWebSocket(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t), "ATTUNE_WORKERS=100") // more than sleep at once
	for name, refusal := range map[string]int32{"NotFound": 404, "BadGateway": 502, "Cut": -1} {
		p := newProxy(t, s, nil)
		p.refusal.Store(refusal)
		for _, tt := range []struct {
			timeout, seconds string
			code             int
		}{
			{"1", "0.2", 0},
			{"1", "600", 3},
			{"5", "2", 0},
			{"5", "600", 3},
			{"10", "3", 0},
			{"10", "600", 3},
			{"12s", "600", 3}, // of which two belong to the WebSocket
			{"60", "4", 0},
		} {
			t.Run(name+"/"+tt.timeout+"/"+tt.seconds, func(t *testing.T) {
				t.Parallel()
				begun := time.Now()
				waiter := p.start(t, "action", "execute", "core.sleep", "--param", "seconds="+tt.seconds, "--wait", "--timeout", tt.timeout, "--json")
				if code := waiter.wait(); code != tt.code {
					t.Errorf("exit code %d, want %d", code, tt.code)
				}
				x := decode[wire.Execution](t, waiter.stdout.String())
				if tt.code == 0 {
					told(t, waiter, x, soon)
					return
				}
				equal(t, "status", x.Status, wire.StatusRunning)
				timeout, _ := time.ParseDuration(strings.TrimSuffix(tt.timeout, "s") + "s")
				if took := waiter.ended.Sub(begun); took < timeout || took > timeout+soon {
					t.Errorf("it took %s", took)
				}
			})
		}
	}
}

// told checks that a client had ended at most within after its execution had.
func told(t *testing.T, waiter *process, x wire.Execution, within time.Duration) {
	t.Helper()
	took := waiter.ended.Sub(x.Updated)
	t.Logf("told %s after the end", took.Round(time.Millisecond))
	if took > within {
		t.Errorf("execution %d was told %s after it had ended, want %s", x.ID, took, within)
	}
}

// ofGate returns the execution whose action waits at a gate.
func ofGate(t *testing.T, s *server, g *gate) (x wire.Execution) {
	t.Helper()
	eventually(t, "there is an execution of "+g.url, func() bool {
		_, body := s.get(t, "/executions?action_ref=core.http_request&limit=500")
		for _, x = range decode[wire.ExecutionList](t, body).Items {
			if strings.Contains(string(x.Parameters), `"`+g.url+`"`) {
				return true
			}
		}
		return false
	})
	return x
}
