package http_test

import (
	"fmt"
	"strings"
	"testing"

	"attune/wire"
)

func TestExecutions_Create(t *testing.T) {
	t.Parallel()
	k := startStack(t, true)

	t.Run("Created", func(t *testing.T) {
		k := k.in(t)
		a := k.do("POST", "/executions", `{"action_ref":"core.echo","parameters":{"message":"Hello!"}}`).want(201)
		got := a.object()
		id := int64(got["id"].(float64))
		equal(t, "Location", a.header.Get("Location"), path(id))
		equal(t, "execution", []any{got["action_ref"], got["status"], got["parameters"], got["result"]},
			[]any{"core.echo", "requested", map[string]any{"message": "Hello!"}, nil})

		// Following from the 201 shows all of it, however fast it was.
		done := k.get(path(id) + "?wait=1m&until=terminal").want(200).object()
		equal(t, "result", done["result"], any(map[string]any{"message": "Hello!"}))
		st := k.opened(fmt.Sprintf("?filter=entity:execution:%d&cursor=%s", id, a.header.Get("Attune-Cursor")))
		var seen []string
		for len(seen) == 0 || seen[len(seen)-1] != "completed" {
			n := object(t, st.block().Data)
			seen = append(seen, n["payload"].(map[string]any)["status"].(string))
		}
		equal(t, "statuses", seen, []string{"requested", "scheduling", "scheduled", "running", "completed"})
	})

	t.Run("Unprocessable", func(t *testing.T) {
		k := k.in(t)
		k.do("POST", "/executions", `{"action_ref":"core.nothing"}`).problem(422, "unknown_action", "core.nothing", "core.echo")
		k.do("POST", "/executions", `{"action_ref":"core.echo","parameters":{"message":7}}`).problem(422, "invalid_parameter", "message")
		k.do("POST", "/executions", `{"action_ref":"core.echo","parameters":{"massage":"x"}}`).problem(422, "invalid_parameter", "message")
		k.do("POST", "/executions", `{"action_ref":"core.echo","parameters":[]}`).problem(422, "invalid_parameter", "parameters", "object")
		k.do("POST", "/executions", `{"action_ref":7}`).problem(422, "invalid_parameter", "action_ref", "core.echo")
		k.do("POST", "/executions", `{}`).problem(422, "invalid_parameter", "action_ref")
		k.do("POST", "/executions", `{"action_ref":"core.noop","params":{}}`).problem(422, "invalid_parameter", "params", "parameters")
	})

	t.Run("InvalidJSON", func(t *testing.T) {
		for _, body := range []string{``, `{`, `null`, `[]`, `"core.echo"`, `{"action_ref":"core.noop"} {}`} {
			k.in(t).do("POST", "/executions", body).problem(400, "invalid_json", `{"action_ref":"core.echo"`)
		}
	})

	t.Run("TooLarge", func(t *testing.T) {
		k := k.in(t)
		body := func(size int) string {
			const around = `{"action_ref":"core.echo","parameters":{"message":""}}`
			return strings.Replace(around, `""`, `"`+strings.Repeat("x", size-len(around))+`"`, 1)
		}
		k.do("POST", "/executions", body(1<<20)).want(201)
		k.do("POST", "/executions", body(1<<20+1)).problem(413, "too_large", "1048576")
		k.do("POST", "/executions", strings.Repeat("x", 8<<20)).problem(413, "too_large", "1048576")
	})

	t.Run("Cancel", func(t *testing.T) {
		k := k.in(t)
		created := k.do("POST", "/executions", `{"action_ref":"core.sleep","parameters":{"seconds":60}}`).want(201).object()
		id := int64(created["id"].(float64))
		eventually(t, "running", func() bool { return k.get(path(id)).object()["status"] == "running" })
		a := k.do("POST", path(id)+"/cancel", "").want(202)
		equal(t, "status", a.object()["status"], any("canceling"))
		cursor := a.header.Get("Attune-Cursor")
		equal(t, "ends", k.get(path(id) + "?wait=1m&until=terminal").want(200).object()["status"], any("cancelled"))

		st := k.opened(fmt.Sprintf("?filter=entity:execution:%d&cursor=%s", id, cursor))
		// The position was taken before the row was written, and may lie before changes
		// that the row had shown already.
		var followed []any
		for len(followed) == 0 || followed[len(followed)-1] != "cancelled" {
			followed = append(followed, object(t, st.block().Data)["payload"].(map[string]any)["status"])
		}
		equal(t, "followed", followed[max(0, len(followed)-2):], []any{"canceling", "cancelled"})
		k.do("POST", path(id)+"/cancel", "").problem(409, "already_terminal", "cancelled")
		k.do("POST", "/executions/999999/cancel", "").problem(404, "not_found", "999999")
		k.do("POST", "/executions/x/cancel", "").problem(400, "invalid_parameter", "integer")
		platforms := k.insert(wire.StatusRunning) // not started by our runner
		notOurs := k.do("POST", path(platforms)+"/cancel", "")
		notOurs.problem(405, "read_only")
		equal(t, "Allow", notOurs.header.Values("Allow"), []string{""})
	})
}

func TestExecutions_ReadOnly(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	a := k.do("POST", "/executions", `{"action_ref":"core.echo"}`)
	a.problem(405, "read_only", "ATTUNE_RUNNER")
	equal(t, "Allow", a.header.Get("Allow"), "GET, HEAD")
	a = k.do("POST", path(id)+"/cancel", "")
	a.problem(405, "read_only", "ATTUNE_RUNNER")
	equal(t, "Allow", a.header.Values("Allow"), []string{""})
	k.get("/executions").want(200)
	equal(t, "stats", k.get("/stats").object()["executions"], any("read_only"))
}

func TestExecutions_None(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, request := range []string{
		"GET /executions", "HEAD /executions", "GET /executions?limit=x", "GET /executions/1", "GET /executions/x?wait=1m", "POST /executions", "POST /executions/1/cancel",
	} {
		method, path, _ := strings.Cut(request, " ")
		a := s.do(method, path, "")
		if a.want(501); method != "HEAD" {
			a.problem(501, "no_executions", "/events", "/ws")
		}
	}
	st := s.opened("")
	c := s.welcomed("/ws?filter=all")
	c.next()
	s.publish(1)
	equal(t, "stream", st.ids(1), []int64{1})
	equal(t, "socket", c.ids(1), []int64{1})
	equal(t, "stats", s.get("/stats").object()["executions"], any("none"))
}
