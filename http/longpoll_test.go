package http_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"attune/wire"
)

func TestExecution_Wait(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)

	// Each begins with an execution that runs; its ETag stands for $E, that of the state
	// before for $B.
	tests := []struct {
		name, query, match string
		during             []wire.Status // set one after the other while it waits
		before             wire.Status   // set before the request, after $E was read
		status             int
		want               wire.Status
		waits              bool // to the end of the wait
	}{
		{name: "NoWait", query: "", status: 200, want: "running"},
		{name: "ZeroWait", query: "wait=0", status: 200, want: "running"},
		{name: "ZeroWaitMatching", query: "wait=0s", match: "$E", status: 304},
		{name: "UntilWithoutWait", query: "until=terminal", status: 200, want: "running"},

		{name: "Unchanged", query: "wait=150ms", status: 200, want: "running", waits: true},
		{name: "UnchangedSeconds", query: "wait=1", status: 200, want: "running", waits: true},
		{name: "UnchangedMatching", query: "wait=150ms", match: "$E", status: 304, waits: true},
		{name: "UnchangedAny", query: "wait=150ms", match: "*", status: 304, waits: true},
		{name: "Changes", query: "wait=1m", during: []wire.Status{"canceling"}, status: 200, want: "canceling"},
		{name: "ChangesMatching", query: "wait=1m", match: `"x", $E`, during: []wire.Status{"completed"}, status: 200, want: "completed"},
		{name: "DiffersAlready", query: "wait=1m", match: "$B", status: 200, want: "running"},
		{name: "ChangedBefore", query: "wait=1m", match: "$E", before: "failed", status: 200, want: "failed"},
		{name: "ChangesAny", query: "wait=400ms", match: "*", during: []wire.Status{"completed"}, status: 304, waits: true},
		{name: "TerminalAndUnchanged", query: "wait=150ms", before: "completed", status: 200, want: "completed", waits: true},

		{name: "UntilTerminal", query: "wait=5m&until=terminal", during: []wire.Status{"canceling", "running", "timeout"}, status: 200, want: "timeout"},
		{name: "UntilTerminalMatching", query: "wait=300&until=terminal", match: "$E", during: []wire.Status{"canceling", "abandoned"}, status: 200, want: "abandoned"},
		{name: "UntilTerminalDiffersAlready", query: "wait=150ms&until=terminal", match: "$B", status: 200, want: "running", waits: true},
		{name: "TerminalAlready", query: "wait=1m30s&until=terminal", before: "cancelled", status: 200, want: "cancelled"},
		{name: "NotTerminal", query: "wait=400ms&until=terminal", during: []wire.Status{"canceling"}, status: 200, want: "canceling", waits: true},
		{name: "NotTerminalMatching", query: "wait=150ms&until=terminal", match: "$E", status: 304, waits: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := k.in(t)
			id := k.insert(wire.StatusScheduled)
			earlier := k.get(path(id)).header.Get("ETag")
			k.update(id, wire.StatusRunning)
			etag := k.get(path(id)).header.Get("ETag")
			if tt.before != "" {
				k.update(id, tt.before)
			}
			var headers []string
			if tt.match != "" {
				headers = []string{"If-None-Match", strings.NewReplacer("$E", etag, "$B", earlier).Replace(tt.match)}
			}

			done := make(chan struct{})
			var got answer
			var err error
			begun := time.Now()
			go func() {
				defer close(done)
				got, err = k.try(http.MethodGet, path(id)+"?"+tt.query, "", headers...)
			}()
			if tt.during != nil {
				k.connections("longpoll", 1)
			}
			for _, status := range tt.during {
				cursor := k.hub.Cursor()
				k.update(id, status)
				eventually(t, "the notification", func() bool { return k.hub.Cursor() != cursor })
			}
			<-done
			took := time.Since(begun)
			if err != nil {
				t.Fatal(err)
			}
			got.want(tt.status)
			if tt.status == 200 {
				equal(t, "status", got.object()["status"], any(string(tt.want)))
			}
			wait := 150 * time.Millisecond
			if strings.Contains(tt.query, "wait=1") && !strings.Contains(tt.query, "ms") {
				wait = time.Second
			}
			if tt.waits != (took >= wait) && (tt.waits || took > 10*time.Second) {
				t.Errorf("took %s", took)
			}
			if got.header.Get("Attune-Cursor") == "" || got.header.Get("ETag") == "" {
				t.Errorf("headers %v", got.header)
			}
		})
	}
	k.connections("longpoll", 0)
}

// poll begins a long poll, and returns when the server waits: the answer comes later.
func (k *stack) poll(path string) <-chan answer {
	k.t.Helper()
	done := make(chan answer)
	k.ask(done, http.MethodGet, path, "")
	k.connections("longpoll", 1)
	return done
}

// TestExecution_WaitWithoutNotification: what the hub does not bring is read when the
// hub says that it may not bring everything, and at the end of the wait.
func TestExecution_WaitWithoutNotification(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	for name, tell := range map[string]func(){
		"Gap": func() {
			now := k.hub.Cursor()
			k.hub.Restart(now.Epoch+"0", now.Offset, wire.GapSourceOverflow)
		},
		"Degraded": func() { k.hub.SetMode(wire.ModeDegraded) },
	} {
		t.Run(name, func(t *testing.T) {
			k := k.in(t)
			id := k.insert(wire.StatusRunning)
			before := k.reads.n.Load()
			done := k.poll(path(id) + "?wait=1m")
			eventually(t, "the first look", func() bool { return k.reads.n.Load() > before })
			k.failSilently(id)
			tell()
			got := <-done
			equal(t, "status", got.want(200).object()["status"], any("failed"))
		})
	}
	t.Run("WhileDegraded", func(t *testing.T) {
		k := k.in(t)
		k.hub.SetMode(wire.ModeDegraded)
		defer k.hub.SetMode(wire.ModeLive)
		id := k.insert(wire.StatusRunning)
		done := k.poll(path(id) + "?wait=1m&until=terminal")
		k.failSilently(id)
		begun := time.Now()
		got := <-done
		equal(t, "status", got.want(200).object()["status"], any("failed"))
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
	})
	t.Run("EndOfWait", func(t *testing.T) {
		k := k.in(t)
		id := k.insert(wire.StatusRunning)
		done := k.poll(path(id) + "?wait=500ms&until=terminal")
		k.failSilently(id)
		got := <-done
		equal(t, "status", got.want(200).object()["status"], any("failed"))
	})
	t.Run("Deleted", func(t *testing.T) {
		k := k.in(t)
		id := k.insert(wire.StatusRunning)
		done := k.poll(path(id) + "?wait=3s")
		k.exec(`DELETE FROM attune.execution WHERE id = $1`, id)
		got := <-done
		got.problem(404, "not_found")
	})
}

// TestExecution_WaitersShareReads: many that wait for one execution cost the
// database what one costs: a read for the change.
func TestExecution_WaitersShareReads(t *testing.T) {
	t.Parallel()
	const waiters = 200
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	before := k.reads.n.Load()
	answers := make(chan answer, waiters)
	for range waiters {
		k.ask(answers, http.MethodGet, path(id)+"?wait=1m&until=terminal", "")
	}
	k.connections("longpoll", waiters)
	eventually(t, "no more reads", func() bool {
		n := k.reads.n.Load()
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // how else see that nothing happens
		return n == k.reads.n.Load()
	})
	first := k.reads.n.Load() - before
	k.update(id, wire.StatusCompleted)
	for range waiters {
		if a := <-answers; a.status != 200 || !strings.Contains(a.body, `"completed"`) {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	change := k.reads.n.Load() - before - first
	t.Logf("%d waiters: %d reads at the start, %d for the change", waiters, first, change)
	if first > waiters/4 || change > 2 {
		t.Error("not shared")
	}
}

// TestExecution_WaitersShareRounds: while no notifications arrive, all who wait, for
// whatever execution, cost one read every two seconds, and each is answered.
func TestExecution_WaitersShareRounds(t *testing.T) {
	rows := &executions{}
	inBubble(t, func(s *server) {
		t := s.t
		const waited, each = 100, 3
		s.hub.SetMode(wire.ModeDegraded)
		answers := make(chan answer, waited*each)
		for id := range int64(waited) {
			rows.put(id, wire.StatusRunning)
			for range each {
				s.ask(answers, http.MethodGet, path(id)+"?wait=5m&until=terminal", "")
			}
		}
		pass(time.Second)
		if n := rows.count(); n > 4 { // two rounds, one of them perhaps with a single one, and what the ticker reads
			t.Errorf("%d reads for the first looks of %d", n, waited*each)
		}
		pass(10 * time.Second)
		equal(t, "reads in 10 s", rows.count(), 5)
		equal(t, "answers", len(answers), 0)
		for id := range int64(waited) {
			rows.put(id, wire.StatusCompleted)
		}
		pass(2 * time.Second)
		equal(t, "answers", len(answers), waited*each)
		for range waited * each {
			if a := <-answers; a.status != 200 || !strings.Contains(a.body, `"completed"`) {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		equal(t, "reads for the end", rows.count(), 1)
	}, func(cfg *setup) { cfg.Executions = rows })
}
