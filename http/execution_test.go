package http_test

import (
	"fmt"
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
