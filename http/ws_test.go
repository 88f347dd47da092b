package http_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"attune/broadcast"
	"attune/http/wstest"
	"attune/wire"
)

func TestWebSocket_Welcome(t *testing.T) {
	t.Parallel()
	s := start(t)
	for n := range 2 {
		s.socket("/ws").want(map[string]any{
			"type": "welcome", "client_id": fmt.Sprintf("client_%d", n+1), "message": "Connected to Attune Notifier", "mode": "live",
		})
	}
	s.hub.SetMode(wire.ModeDegraded)
	equal(t, "mode", s.socket("/ws").next()["mode"], any("degraded"))
}

func TestWebSocket_Subprotocol(t *testing.T) {
	t.Parallel()
	s := start(t)
	for offered, want := range map[string]string{
		"": "", "attune.v1": "attune.v1", "other": "", "attune.v1, attune.jwt.e30": "attune.v1", "other, attune.v1": "attune.v1",
	} {
		c := s.socket("/ws", "Sec-WebSocket-Protocol", offered)
		equal(t, fmt.Sprintf("subprotocol of %q", offered), c.resp.Header.Get("Sec-WebSocket-Protocol"), want)
	}
}

func TestWebSocket_Frames(t *testing.T) {
	t.Parallel()

	t.Run("Acknowledged", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		now := s.publish(1)
		c := s.welcomed("/ws")
		c.send(`{"type":"subscribe","filter":"entity:execution:42"}`)
		c.want(map[string]any{"type": "subscribed", "filter": "entity:execution:42", "cursor": now})
		cursor := s.publish(41, 42)
		c.want(map[string]any{
			"type": "notification", "notification_type": "execution_status_changed", "entity_type": "execution", "entity_id": 42.0,
			"user_id": nil, "payload": map[string]any{"id": 42.0}, "timestamp": "2026-03-03T19:42:41.123456Z", "cursor": cursor,
		})
		c.send(`{"type":"unsubscribe","filter":"entity:execution:42"}`)
		c.want(map[string]any{"type": "unsubscribed", "filter": "entity:execution:42"})
		s.publish(42)
		c.send(`{"type":"ping"}`)
		c.want(map[string]any{"type": "pong"})
		equal(t, "deliveries", s.metric(`attune_deliveries_total{transport="ws"}`), 1)
	})

	t.Run("DeliveredOnceInOrder", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		c := s.welcomed("/ws")
		for _, filter := range []string{"all", "entity_type:execution", "entity:execution:2", "notification_type:execution_status_changed"} {
			c.subscribe(filter)
		}
		c.subscribe("all") // again: acknowledged, not delivered twice
		s.publish(1, 2, 3)
		equal(t, "ids", c.ids(3), []int64{1, 2, 3})
		c.send(`{"type":"unsubscribe","filter":"user:1"}`) // never there
		c.want(map[string]any{"type": "unsubscribed", "filter": "user:1"})
	})

	t.Run("WithoutFilterNothing", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		c := s.welcomed("/ws")
		s.publish(1)
		s.hub.Gap(wire.GapListenerReconnected)
		c.quiet()
	})

	t.Run("Status", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		c := s.welcomed("/ws")
		s.hub.SetMode(wire.ModeDegraded)
		s.hub.SetMode(wire.ModeLive)
		c.want(map[string]any{"type": "status", "mode": "degraded"})
		c.want(map[string]any{"type": "status", "mode": "live"})
	})

	t.Run("Refused", func(t *testing.T) {
		t.Parallel()
		c := start(t).welcomed("/ws")
		for _, tt := range []struct{ send, code, names string }{
			{`{"type":`, "invalid_json", "JSON"},
			{`[]`, "invalid_json", "JSON"},
			{`null`, "invalid_json", "JSON"},
			{``, "invalid_json", "JSON"},
			{`{}`, "unknown_type", "subscribe, unsubscribe, ping or auth"},
			{`{"type":"Subscribe","filter":"all"}`, "unknown_type", "Subscribe"},
			{`{"type":7}`, "unknown_type", "ping"},
			{`{"type":"subscribe"}`, "invalid_filter", "entity_type:<type>"},
			{`{"type":"subscribe","filter":7}`, "invalid_filter", "entity_type:<type>"},
			{`{"type":"subscribe","filter":"entity:execution"}`, "invalid_filter", "entity:<type>:<id>"},
			{`{"type":"unsubscribe","filter":"user:01"}`, "invalid_filter", "user:01"},
		} {
			c.send(tt.send)
			c.refused(tt.code, tt.names)
		}
		c.subscribe("all") // the connection is as good as before
	})

	t.Run("TooManyFilters", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		c := s.welcomed("/ws")
		for i := range 100 {
			c.subscribe(fmt.Sprintf("user:%d", i))
		}
		c.subscribe("user:7") // is there: not one more
		c.send(`{"type":"subscribe","filter":"all"}`)
		c.refused("too_many_filters", "100")
		s.publish(1)
		c.send(`{"type":"unsubscribe","filter":"user:7"}`)
		c.want(map[string]any{"type": "unsubscribed", "filter": "user:7"})
		c.subscribe("all")
	})
}

func TestWebSocket_Cursor(t *testing.T) {
	t.Parallel()

	t.Run("Replays", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		from := s.publish(1, 2)
		s.publish(3, 4, 3)
		c := s.welcomed("/ws")
		c.send(`{"type":"subscribe","filter":"entity:execution:3","cursor":"` + from + `"}`)
		c.want(map[string]any{"type": "subscribed", "filter": "entity:execution:3", "cursor": from})
		s.publish(5, 3)
		equal(t, "ids", c.ids(3), []int64{3, 3, 3})
		c.quiet()
	})

	t.Run("FirstOnly", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		cursor := s.publish(1)
		c := s.welcomed("/ws")
		c.subscribe("entity:execution:2")
		c.send(`{"type":"subscribe","filter":"all","cursor":"` + cursor + `"}`)
		c.refused("cursor_not_first")
		s.publish(1) // the filter was not added
		c.quiet()
		c.send(`{"type":"unsubscribe","filter":"entity:execution:2"}`)
		c.next()
		c.send(`{"type":"subscribe","filter":"all","cursor":"` + cursor + `"}`)
		c.refused("cursor_not_first")
		c.send(`{"type":"subscribe","filter":"all","cursor":null}`)
		equal(t, "null is none", c.next()["type"], any("subscribed"))
	})

	t.Run("Gap", func(t *testing.T) {
		t.Parallel()
		s := start(t, func(cfg *setup) { cfg.WindowSize = 2 })
		before := s.publish(1)
		s.hub.Gap(wire.GapSourceOverflow)
		expired := s.publish(2)
		now := s.publish(3, 4, 5)
		for cursor, reason := range map[string]string{
			`"` + expired + `"`:                    "cursor_expired",
			`"` + before + `"`:                     "source_overflow",
			`"otherepoch.1"`:                       "cursor_unknown",
			`"` + now + `0"`:                       "cursor_unknown", // from the future
			`"not a cursor"`:                       "cursor_invalid",
			`""`:                                   "cursor_invalid",
			`7`:                                    "cursor_invalid",
			`{"a":1}`:                              "cursor_invalid",
			`"` + strings.Repeat("a", 200) + `.1"`: "cursor_invalid",
		} {
			c := s.welcomed("/ws")
			c.send(`{"type":"subscribe","filter":"all","cursor":` + cursor + `}`)
			c.want(map[string]any{"type": "subscribed", "filter": "all", "cursor": now})
			c.want(map[string]any{"type": "gap", "reason": reason, "cursor": now})
			c.quiet()
		}
		equal(t, "gaps", s.metric(`attune_gaps_total{reason="cursor_invalid"}`), 5)
	})

	t.Run("GapInMidStream", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		c := s.welcomed("/ws?filter=all")
		c.next()
		s.publish(1)
		s.hub.Gap(wire.GapListenerReconnected)
		now := s.hub.Cursor().String()
		s.publish(2)
		equal(t, "before", c.ids(1), []int64{1})
		c.want(map[string]any{"type": "gap", "reason": "listener_reconnected", "cursor": now})
		equal(t, "after", c.ids(1), []int64{2})
	})
}

func TestWebSocket_URL(t *testing.T) {
	t.Parallel()
	s := start(t)
	from := s.publish(1)
	s.publish(2, 3)

	t.Run("ReplayFollowsLastAcknowledgement", func(t *testing.T) {
		s := s.in(t)
		c := s.welcomed("/ws?filter=entity:execution:2&filter=entity:execution:3&filter=entity:execution:2&cursor=" + from)
		for _, filter := range []string{"entity:execution:2", "entity:execution:3", "entity:execution:2"} {
			c.want(map[string]any{"type": "subscribed", "filter": filter, "cursor": from})
		}
		equal(t, "ids", c.ids(2), []int64{2, 3})
		c.send(`{"type":"subscribe","filter":"all","cursor":"` + from + `"}`)
		c.refused("cursor_not_first")
	})

	t.Run("BadCursorIsGap", func(t *testing.T) {
		s := s.in(t)
		for _, cursor := range []string{"", "%00", "a%20b"} {
			c := s.welcomed("/ws?filter=all&cursor=" + cursor)
			equal(t, "first", c.next()["type"], any("subscribed"))
			equal(t, "second", c.next()["reason"], any("cursor_invalid"))
		}
	})

	t.Run("FirstFrameComesAfterIt", func(t *testing.T) {
		s := s.in(t)
		// A client may send before it has read anything.
		for range 20 {
			c := s.raw(upgrade("/ws?filter=all&cursor=" + from))
			c.upgraded()
			c.frame(true, wstest.Text, `{"type":"subscribe","filter":"user:1","cursor":"`+from+`"}`)
			equal(t, "1st", c.text()["type"], any("welcome"))
			equal(t, "2nd", c.text()["filter"], any("all"))
			seen := map[any]int{}
			for range 3 {
				seen[c.text()["type"]]++
			}
			equal(t, "then", seen, map[any]int{"notification": 2, "error": 1})
		}
	})

	t.Run("RefusedBeforeTheUpgrade", func(t *testing.T) {
		s := s.in(t)
		tooMany := strings.Repeat("&filter=all", broadcast.MaxFilters+1)
		for path, words := range map[string][]string{
			"/ws?filter=nonsense":          {"nonsense", "entity_type:<type>"},
			"/ws?filter=":                  {"entity_type:<type>"},
			"/ws?filter=all&filter=user:x": {"user:x"},
			"/ws?" + tooMany[1:]:           {"101", "100"},
		} {
			s.raw(upgrade(path)).answer().problem(400, "invalid_filter", words...)
		}
		for path, words := range map[string][]string{
			"/ws?cursor=" + from: {"cursor", "filter"},
			"/ws?filter=%zz":     {"%zz"},
			"/ws?a;b":            {"semicolon"},
		} {
			s.raw(upgrade(path)).answer().problem(400, "invalid_parameter", words...)
		}
		s.raw(strings.Replace(upgrade("/ws"), "\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n", 1)).answer().
			problem(403, "forbidden", "evil.example", "ATTUNE_ALLOWED_ORIGINS")
	})
}

func TestWebSocket_Handshake(t *testing.T) {
	t.Parallel()
	s := start(t)
	without := func(line string) string { return strings.Replace(upgrade("/ws"), line+"\r\n", "", 1) }
	with := func(was, is string) string { return strings.Replace(upgrade("/ws"), was, is, 1) }

	for name, request := range map[string]string{
		"NoUpgrade":    without("Upgrade: websocket"),
		"OtherUpgrade": with("Upgrade: websocket", "Upgrade: h2c"),
		"NoConnection": without("Connection: Upgrade"),
		"HTTP10":       with("HTTP/1.1", "HTTP/1.0"),
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			a := s.raw(request).answer()
			a.problem(426, "invalid_parameter", "WebSocket")
			equal(t, "Upgrade", a.header.Get("Upgrade"), "websocket")
		})
	}
	for name, request := range map[string]string{
		"OtherVersion": with("Version: 13", "Version: 8"),
		"NoVersion":    without("Sec-WebSocket-Version: 13"),
		"NoKey":        without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
		"ShortKey":     with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
		"TwoKeys":      with("Sec-WebSocket-Version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version"),
	} {
		t.Run(name, func(t *testing.T) { s.in(t).raw(request).answer().problem(400, "invalid_parameter", "WebSocket") })
	}
	t.Run("ListOfUpgrades", func(t *testing.T) { s.in(t).raw(with("Upgrade: websocket", "Upgrade: h2c, WebSocket")).upgraded() })
	t.Run("Head", func(t *testing.T) {
		s := s.in(t)
		equal(t, "status", s.do("HEAD", "/ws", "").status, 426)
	})
	t.Run("Post", func(t *testing.T) {
		s := s.in(t)
		a := s.do("POST", "/ws", "")
		a.problem(405, "method_not_allowed", "POST")
		equal(t, "Allow", a.header.Get("Allow"), "GET, HEAD")
	})
	s.connections("ws", 0)
}

func TestWebSocket_Close(t *testing.T) {
	t.Parallel()
	s := start(t)

	t.Run("1003Binary", func(t *testing.T) {
		s := s.in(t)
		c := s.welcomed("/ws")
		if err := c.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)); err != nil {
			t.Fatal(err)
		}
		c.closed(websocket.StatusUnsupportedData)
	})

	t.Run("1008AfterTwentyBadFrames", func(t *testing.T) {
		s := s.in(t)
		c := s.welcomed("/ws")
		bad := func(n int) {
			for i := range n {
				c.send([]string{`nonsense`, `{"type":"nonsense"}`}[i%2])
				c.refused([]string{"invalid_json", "unknown_type"}[i%2])
			}
		}
		bad(19)
		c.quiet() // not in a row
		bad(19)
		c.send(`{"type":"subscribe","filter":"nonsense"}`)
		c.refused("invalid_filter") // not one of the bad
		bad(20)                     // the twentieth is answered
		c.closed(websocket.StatusPolicyViolation)
	})

	t.Run("1008InOneBurst", func(t *testing.T) {
		s := s.in(t)
		c := s.rawSocket("/ws")
		for range 30 {
			c.frame(true, wstest.Text, "nonsense")
		}
		c.text()
		for range 20 {
			equal(t, "code", c.text()["code"], any("invalid_json"))
		}
		equal(t, "close code", c.closed(), websocket.StatusPolicyViolation)
	})

	t.Run("1009TooBig", func(t *testing.T) {
		s := s.in(t)
		ping := `{"type":"ping","pad":"` + strings.Repeat("x", 64<<10)
		ping = ping[:64<<10-2] + `"}` // 64 KiB to the byte
		c := s.welcomed("/ws")
		c.send(ping)
		c.want(map[string]any{"type": "pong"})
		c.send(ping + " ")
		c.closed(websocket.StatusMessageTooBig)
	})

	t.Run("1009MuchTooBig", func(t *testing.T) {
		// More than sockets hold: closing without reading the rest would reset the
		// connection, and the client would read an error instead of the code.
		c := s.in(t).rawSocket("/ws")
		c.write(wstest.Frame(wstest.Fin|wstest.Text, make([]byte, 12<<20)))
		equal(t, "close code", c.closed(), websocket.StatusMessageTooBig)
	})

	t.Run("1009InFragments", func(t *testing.T) {
		s := s.in(t)
		c := s.rawSocket("/ws")
		c.frame(false, wstest.Text, strings.Repeat(" ", 60<<10))
		c.frame(true, wstest.Ping, "between")
		c.frame(true, wstest.Continuation, strings.Repeat(" ", 60<<10))
		equal(t, "close code", c.closed(), websocket.StatusMessageTooBig)
	})

	t.Run("Fragments", func(t *testing.T) {
		s := s.in(t)
		c := s.rawSocket("/ws")
		c.text()
		c.frame(false, wstest.Text, `{"type":`)
		c.frame(true, wstest.Ping, "between")
		c.frame(false, wstest.Continuation, `"pi`)
		c.frame(true, wstest.Continuation, `ng"}`)
		op, payload, err := c.next()
		equal(t, "pong frame", fmt.Sprintf("%d %s %v", op, payload, err), "10 between <nil>")
		equal(t, "pong", c.text(), map[string]any{"type": "pong"})
	})

	t.Run("ProtocolErrors", func(t *testing.T) {
		s := s.in(t)
		for name, frame := range map[string][]byte{
			"ReservedBits":       {0xf1, 0x80, 1, 2, 3, 4},
			"UnknownOpcode":      {0x83, 0x80, 1, 2, 3, 4},
			"LongPing":           wstest.Frame(wstest.Fin|wstest.Ping, make([]byte, 200)),
			"FragmentedPing":     wstest.Frame(wstest.Ping, nil),
			"ContinuesNothing":   wstest.Frame(wstest.Fin|wstest.Continuation, nil),
			"TextWithinText":     append(wstest.Frame(wstest.Text, []byte(" ")), wstest.Frame(wstest.Fin|wstest.Text, nil)...),
			"CloseWithOneByte":   wstest.Frame(wstest.Fin|wstest.Close, []byte{3}),
			"CloseWithWrongCode": wstest.Frame(wstest.Fin|wstest.Close, []byte{0, 1}),
			"NegativeLength":     {0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
			"NotMasked":          {0x81, 0x00},
		} {
			t.Run(name, func(t *testing.T) {
				s := s.in(t)
				c := s.rawSocket("/ws")
				c.write(frame)
				equal(t, "close code", c.closed(), websocket.StatusProtocolError)
			})
		}
	})

	t.Run("1007NotUTF8", func(t *testing.T) {
		c := s.in(t).rawSocket("/ws")
		c.frame(false, wstest.Text, "\xc3")
		c.frame(true, wstest.Continuation, "\x28")
		equal(t, "close code", c.closed(), websocket.StatusInvalidFramePayloadData)
		c = s.in(t).rawSocket("/ws")
		c.frame(true, wstest.Close, "\x03\xe8\xff")
		equal(t, "close code", c.closed(), websocket.StatusInvalidFramePayloadData)
	})

	t.Run("CharacterInTwoFragments", func(t *testing.T) {
		c := s.in(t).rawSocket("/ws")
		c.text()
		c.frame(false, wstest.Text, `{"type":"ping","x":"`+"\xc3")
		c.frame(true, wstest.Continuation, "\xa4"+`"}`)
		equal(t, "pong", c.text(), map[string]any{"type": "pong"})
	})

	t.Run("EchoesTheCode", func(t *testing.T) {
		c := s.in(t).rawSocket("/ws")
		c.text()
		c.frame(true, wstest.Close, "\x0f\xa0done") // 4000
		op, payload, err := c.next()
		equal(t, "close frame", fmt.Sprintf("%d %x %v", op, payload, err), "8 0fa0 <nil>")
		c.gone()
		c = s.in(t).rawSocket("/ws")
		c.text()
		c.frame(true, wstest.Close, "")
		op, payload, err = c.next()
		equal(t, "close frame", fmt.Sprintf("%d %x %v", op, payload, err), "8  <nil>")
		c.gone()
	})

	// As many at once as never fit into a buffer, byte by byte, and an answer to the
	// latest at least.
	t.Run("ManyPings", func(t *testing.T) {
		c := s.in(t).rawSocket("/ws")
		c.text()
		var pings []byte
		for i := range 300 {
			payload := fmt.Appendf(nil, "%0125d", i)
			pings = append(pings, wstest.Frame(wstest.Fin|wstest.Ping, payload)...)
		}
		for _, b := range pings[:1000] {
			c.write([]byte{b})
		}
		c.write(pings[1000:])
		for {
			op, payload, err := c.next()
			if err != nil || op != wstest.Pong {
				t.Fatal(op, err)
			}
			if string(payload) == fmt.Sprintf("%0125d", 299) {
				break
			}
		}
	})

	t.Run("ByTheClient", func(t *testing.T) {
		s := s.in(t)
		if err := s.welcomed("/ws").conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
	s.connections("ws", 0)
	equal(t, "slow consumers", s.metric(`attune_slow_consumers_total{transport="ws"}`), 0)
}
