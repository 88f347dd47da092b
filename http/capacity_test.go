package http_test

import (
	"testing"

	"github.com/coder/websocket"

	"attune/broadcast"
)

func TestCapacity(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*setup){
		"InAll":       func(cfg *setup) { cfg.MaxConnections = 2 },
		"OfAnAddress": func(cfg *setup) { cfg.MaxPerAddress = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, limit)
			c, st := s.welcomed("/ws"), s.opened("")

			a := s.get("/events")
			a.problem(503, "over_capacity", "2 connections")
			equal(t, "Retry-After", a.header.Get("Retry-After"), "5")
			s.socket("/ws").closed(websocket.StatusTryAgainLater) // a browser sees codes, not statuses
			s.get("/livez").want(200)

			_ = st.resp.Body.Close() // makes room
			s.connections("sse", 0)
			s.opened("")
			c.quiet()
		})
	}

	t.Run("LongPolls", func(t *testing.T) {
		t.Parallel()
		k := startStack(t, false, func(cfg *setup) { cfg.MaxConnections = 1 })
		id := k.insert("running")
		k.welcomed("/ws")
		k.get(path(id)+"?wait=1m").problem(503, "over_capacity", "1 connections")
		k.get(path(id)).want(200)
	})

	t.Run("Filters", func(t *testing.T) {
		t.Parallel()
		s := start(t, func(cfg *setup) {
			cfg.Options = broadcast.Options{QueueSize: 8, WindowSize: 8, MaxFilters: 1}
		})
		first := s.welcomed("/ws?filter=user:1")
		first.next()
		s.get("/events?filter=user:2").problem(503, "over_capacity", "filters")
		s.socket("/ws?filter=user:2").closed(websocket.StatusTryAgainLater)
		c := s.welcomed("/ws")
		c.send(`{"type":"subscribe","filter":"user:2"}`)
		c.closed(websocket.StatusTryAgainLater)
	})

	t.Run("FiltersAndLongPolls", func(t *testing.T) {
		t.Parallel()
		k := startStack(t, false, func(cfg *setup) {
			cfg.Hub = broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 8, MaxFilters: 1})
		})
		k.exec(`INSERT INTO attune.execution (id, action_ref, status) VALUES (1, 'core.echo', 'running')`)
		k.opened("?filter=user:1")
		a := k.get("/executions/1?wait=1m")
		a.problem(503, "over_capacity", "filters")
		equal(t, "Retry-After", a.header.Get("Retry-After"), "5")
	})
}

// TestClientsGone: however a client goes, the server notices.
func TestClientsGone(t *testing.T) {
	t.Parallel()
	s := start(t)
	sockets := []*raw{s.rawSocket("/ws"), s.rawSocket("/ws?filter=all"), s.rawSocket("/ws")}
	s.socket("/ws")
	streams := []*raw{s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n"), s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n")}
	s.connections("ws", 4)
	s.connections("sse", 2)

	_ = sockets[0].conn.Close()
	halfClose(t, sockets[1])
	sockets[1].gone()
	reset(t, sockets[2])
	s.connections("ws", 1)

	halfClose(t, streams[0])
	reset(t, streams[1])
	s.connections("sse", 0)
	equal(t, "subscribers", s.hub.Stats().Subscribers, 1)
}
