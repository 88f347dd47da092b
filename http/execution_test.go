package http_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"attune/wire"
)

func TestExecution_Get(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRequested)
	first := k.get(path(id)).want(200)
	etag := first.header.Get("ETag")

	t.Run("Members", func(t *testing.T) {
		got := k.in(t).get(path(id)).want(200).object()
		for _, name := range []string{"created", "updated"} {
			if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got[name])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			delete(got, name)
		}
		equal(t, "execution", got, map[string]any{
			"id": float64(id), "action_ref": "core.echo", "parameters": map[string]any{"message": "hi"}, "parent": nil,
			"executor": nil, "status": "requested", "result": nil, "started_at": nil,
		})
		equal(t, "content type", first.header.Get("Content-Type"), "application/json")
	})

	t.Run("ETag", func(t *testing.T) {
		k := k.in(t)
		if !regexp.MustCompile(`^"[^"]+"$`).MatchString(etag) {
			t.Errorf("ETag %s is not strong", etag)
		}
		equal(t, "same state", k.get(path(id)).header.Get("ETag"), etag)
		other := k.insert(wire.StatusRequested)
		before := k.get(path(other)).header.Get("ETag")
		k.update(other, wire.StatusRunning)
		if after := k.get(path(other), "If-None-Match", before).want(200).header.Get("ETag"); after == before {
			t.Error("the ETag is that of another state")
		}
	})

	t.Run("IfNoneMatch", func(t *testing.T) {
		k := k.in(t)
		for header, status := range map[string]int{
			etag: 304, "W/" + etag: 304, "*": 304, `"x", ` + etag: 304, `"x",` + etag + `,"y"`: 304, ` "x" , * `: 304,
			`"x"`: 200, `"x", "y"`: 200, "": 200, strings.Trim(etag, `"`): 200,
		} {
			a := k.get(path(id), "If-None-Match", header).want(status)
			equal(t, "ETag", a.header.Get("ETag"), etag)
			if status == 304 {
				equal(t, "body", a.body, "")
			}
		}
		k.get(path(id), "If-None-Match", `"x"`, "If-None-Match", etag).want(304)
	})

	t.Run("Head", func(t *testing.T) {
		a := k.in(t).do("HEAD", path(id), "").want(200)
		equal(t, "ETag", a.header.Get("ETag"), etag)
		equal(t, "body", a.body, "")
		k.in(t).do("HEAD", path(id), "", "If-None-Match", etag).want(304)
	})

	t.Run("Refused", func(t *testing.T) {
		k := k.in(t)
		k.get("/executions/999999").problem(404, "not_found", "999999")
		k.get("/executions/-1").problem(404, "not_found", "-1")
		k.get("/executions/999999?wait=60s").problem(404, "not_found", "999999") // at once
		for _, bad := range []string{"x", "1.5", "9223372036854775808", "1%2F2", "%00"} {
			k.get("/executions/"+bad).problem(400, "invalid_parameter", "integer of 64 bits")
		}
		for _, bad := range []string{
			"", "x", "-1s", "-1", "1.5", "301", "300.5s", "5m1s", "5m0.001s", "1h", "99999999999999999999", "1 s", "٣s",
		} {
			k.get(path(id)+"?wait="+strings.ReplaceAll(bad, " ", "%20")).problem(400, "invalid_parameter", "wait", "30s", "1m30s", "whole seconds", "5m")
		}
		for _, bad := range []string{"", "completed", "Terminal"} {
			k.get(path(id)+"?wait=1s&until="+bad).problem(400, "invalid_parameter", "until", "terminal")
			k.get(path(id)+"?until="+bad).problem(400, "invalid_parameter", "until", "terminal")
		}
		k.get(path(id)+"?wait=%zz").problem(400, "invalid_parameter", "%zz")
		k.get(path(id)+"?wait=1s;until=terminal").problem(400, "invalid_parameter", "semicolon")
	})
}

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
			done := make(chan answer)
			go func() {
				a, _ := k.try(http.MethodGet, path(id)+"?wait=1m", "")
				done <- a
			}()
			k.connections("longpoll", 1)
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
		done := make(chan answer)
		go func() {
			a, _ := k.try(http.MethodGet, path(id)+"?wait=1m&until=terminal", "")
			done <- a
		}()
		k.connections("longpoll", 1)
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
		done := make(chan answer)
		go func() {
			a, _ := k.try(http.MethodGet, path(id)+"?wait=500ms&until=terminal", "")
			done <- a
		}()
		k.connections("longpoll", 1)
		k.failSilently(id)
		got := <-done
		equal(t, "status", got.want(200).object()["status"], any("failed"))
	})
	t.Run("Deleted", func(t *testing.T) {
		k := k.in(t)
		id := k.insert(wire.StatusRunning)
		done := make(chan answer)
		go func() {
			a, _ := k.try(http.MethodGet, path(id)+"?wait=3s", "")
			done <- a
		}()
		k.connections("longpoll", 1)
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
		go func() {
			a, err := k.try(http.MethodGet, path(id)+"?wait=1m&until=terminal", "")
			if err != nil {
				a.body = err.Error()
			}
			answers <- a
		}()
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
				go func() {
					a, err := s.try(http.MethodGet, path(id)+"?wait=5m&until=terminal", "")
					if err != nil {
						a.body = err.Error()
					}
					answers <- a
				}()
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

func TestExecutions_List(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	equal(t, "nothing", k.get("/executions").want(200).object(), map[string]any{"items": []any{}, "next_before": nil})
	k.exec(`INSERT INTO attune.execution (id, action_ref, status, parent)
		SELECT n, CASE WHEN n % 3 = 0 THEN 'core.noop' ELSE 'core.echo' END,
		       (CASE WHEN n % 2 = 0 THEN 'completed' ELSE 'running' END)::attune.execution_status_enum,
		       CASE WHEN n > 100 THEN 100 END
		FROM generate_series(1, 600) n`)
	ids := func(a answer) (list []int, next any) {
		got := a.want(200).object()
		for _, item := range got["items"].([]any) {
			list = append(list, int(item.(map[string]any)["id"].(float64)))
		}
		return list, got["next_before"]
	}
	down := func(from, step, n int) (list []int) {
		for i := range n {
			list = append(list, from-i*step)
		}
		return list
	}
	for query, want := range map[string][]int{
		"":                              down(600, 1, 50),
		"?limit=1":                      {600},
		"?limit=500":                    down(600, 1, 500),
		"?limit=3&before=4":             {3, 2, 1},
		"?before=1":                     nil,
		"?before=-5":                    nil,
		"?status=completed&limit=3":     {600, 598, 596},
		"?action_ref=core.noop&limit=2": {600, 597},
		"?action_ref=core.nothing":      nil,
		"?parent=100&before=104":        {103, 102, 101},
		"?parent=1":                     nil,
		"?status=running&action_ref=core.noop&parent=100&limit=2": {597, 591},
		"?status=&action_ref=&parent=&limit=&before=":             down(600, 1, 50),
	} {
		got, _ := ids(k.get("/executions" + query))
		equal(t, "ids of "+query, got, want)
	}

	t.Run("Pages", func(t *testing.T) {
		k := k.in(t)
		var all []int
		pages := 0
		for before := any(601.0); before != nil; pages++ {
			var page []int
			page, before = ids(k.get(fmt.Sprintf("/executions?limit=200&before=%v", before)))
			all = append(all, page...)
		}
		equal(t, "ids", all, down(600, 1, 600))
		equal(t, "pages", pages, 3) // the last one is full, and says that it is the last
	})

	t.Run("SameAsAlone", func(t *testing.T) {
		k := k.in(t)
		alone := k.get("/executions/600").object()
		listed := k.get("/executions?limit=1").object()["items"].([]any)[0]
		equal(t, "item", listed, any(alone))
	})

	t.Run("Brief", func(t *testing.T) {
		k := k.in(t)
		k.exec(`INSERT INTO attune.execution (id, action_ref, config, result, parent) VALUES (1000, 'core.echo', '{"message":"a"}', '{"message":"a"}', 600)`)
		full, brief := k.get("/executions/1000").object(), k.get("/executions?limit=1&parent=600&brief=true").object()["items"].([]any)[0]
		full["parameters"], full["result"] = nil, nil
		equal(t, "item", brief, any(full))
		k.get("/executions?limit=1&limit=2").problem(400, "invalid_parameter", "limit", "2 times", "filter")
		k.get("/executions?brief=maybe").problem(400, "invalid_parameter", "brief", "maybe", "true or false")
	})

	t.Run("Refused", func(t *testing.T) {
		k := k.in(t)
		for _, bad := range []string{"0", "501", "-1", "x", "1.5", "99999999999999999999"} {
			k.get("/executions?limit="+bad).problem(400, "invalid_parameter", "limit", "1 to 500")
		}
		for _, bad := range []string{"done", "Completed", "succeeded"} {
			words := []string{"status", bad}
			for _, status := range wire.Statuses() {
				words = append(words, string(status))
			}
			k.get("/executions?status="+bad).problem(400, "invalid_parameter", words...)
		}
		for _, name := range []string{"parent", "before"} {
			k.get("/executions?"+name+"=x").problem(400, "invalid_parameter", name, "id of an execution")
		}
		k.get("/executions?%zz").problem(400, "invalid_parameter", "%zz")
	})

	t.Run("Head", func(t *testing.T) {
		if k.in(t).do("HEAD", "/executions", "").want(200).header.Get("Attune-Cursor") == "" {
			t.Error("no Attune-Cursor")
		}
	})
	if slices.Contains(k.get("/executions").header.Values("Cache-Control"), "") {
		t.Error("no Cache-Control")
	}
}

// TestExecutions_Cursor: whoever reads and then follows from the answer's cursor
// misses nothing that was written in between.
func TestExecutions_Cursor(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	for name, read := range map[string]func(k *stack, id int64) answer{
		"Get":  func(k *stack, id int64) answer { return k.get(path(id)).want(200) },
		"List": func(k *stack, _ int64) answer { return k.get("/executions").want(200) },
		"NotModified": func(k *stack, id int64) answer {
			return k.get(path(id), "If-None-Match", k.get(path(id)).header.Get("ETag")).want(304)
		},
		"Waited":   func(k *stack, id int64) answer { return k.get(path(id) + "?wait=50ms").want(200) },
		"Terminal": func(k *stack, id int64) answer { return k.get(path(id) + "?wait=50ms&until=terminal").want(200) },
	} {
		t.Run(name, func(t *testing.T) {
			k := k.in(t)
			id := k.insert(wire.StatusRequested)
			cursor := read(k, id).header.Get("Attune-Cursor")
			k.update(id, wire.StatusRunning) // between reading and following
			eventually(t, "the notification", func() bool { return k.hub.Cursor().String() != cursor })

			filter := fmt.Sprintf("entity:execution:%d", id)
			c := k.welcomed("/ws")
			c.send(`{"type":"subscribe","filter":"` + filter + `","cursor":"` + cursor + `"}`)
			c.want(map[string]any{"type": "subscribed", "filter": filter, "cursor": cursor})
			st := k.opened("?filter=" + filter + "&cursor=" + cursor)
			k.update(id, wire.StatusCompleted)
			for _, want := range []string{"running", "completed"} {
				equal(t, "socket", c.next()["payload"].(map[string]any)["status"], any(want))
				equal(t, "stream", object(t, st.block().Data)["payload"].(map[string]any)["status"], any(want))
			}
		})
	}
}

// TestExecution_DatabaseGone: what went wrong is the log's, not the client's.
func TestExecution_DatabaseGone(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	k.exec(`ALTER TABLE attune.execution RENAME TO gone`)
	for _, request := range []string{"/executions", path(id), path(id) + "?wait=1m"} {
		a := k.get(request)
		a.problem(500, "internal", "log")
		if strings.Contains(a.body, "relation") || strings.Contains(a.body, "SQLSTATE") {
			t.Errorf("tells %s", a.body)
		}
	}
}

func TestExecution_ClientGone(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	c := k.raw("GET " + path(id) + "?wait=5m HTTP/1.1\r\nHost: attune\r\n\r\n")
	k.connections("longpoll", 1)
	_ = c.conn.Close()
	k.connections("longpoll", 0)
	equal(t, "subscribers", k.hub.Stats().Subscribers, 0)
	equal(t, "server errors", k.metric(`attune_http_request_seconds_count{method="GET",route="/executions/{id}",status="5xx"}`), -1)
}
