package http_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/r3labs/sse/v2"

	"attune/wire"
)

func TestEvents_Start(t *testing.T) {
	t.Parallel()
	s := start(t)
	cursor := s.publish(1)

	t.Run("Headers", func(t *testing.T) {
		header := s.in(t).events("").resp.Header
		equal(t, "content type", header.Get("Content-Type"), "text/event-stream")
		equal(t, "caching", header.Get("Cache-Control"), "no-store, no-transform")
		equal(t, "buffering", header.Get("X-Accel-Buffering"), "no")
	})

	t.Run("RetryIsFirstAndJittered", func(t *testing.T) {
		s := s.in(t)
		seen := map[string]bool{}
		for range 8 {
			e := s.events("").block()
			equal(t, "first block", e, event{Retry: e.Retry})
			ms, err := strconv.Atoi(e.Retry)
			if err != nil || ms < 1000 || ms > 3000 {
				t.Errorf("retry %q, want 1000 to 3000", e.Retry)
			}
			seen[e.Retry] = true
		}
		if len(seen) < 2 {
			t.Errorf("always the same retry: %v", seen)
		}
	})

	t.Run("Welcome", func(t *testing.T) {
		st := s.in(t).events("?filter=entity:execution:2&filter=user:7")
		st.block()
		e := st.block()
		got := object(t, e.Data)
		if id, _ := got["client_id"].(string); !strings.HasPrefix(id, "client_") {
			t.Errorf("client_id %q", id)
		}
		delete(got, "client_id")
		equal(t, "event", event{Name: e.Name, ID: e.ID}, event{Name: "welcome", ID: cursor})
		equal(t, "data", got, map[string]any{
			"type": "welcome", "message": "Connected to Attune Notifier", "mode": "live",
			"filters": []any{"entity:execution:2", "user:7"}, "cursor": cursor,
		})
	})

	t.Run("WithoutFilterAll", func(t *testing.T) {
		st := s.in(t).events("")
		st.block()
		equal(t, "filters", object(t, st.block().Data)["filters"], any([]any{"all"}))
	})

	t.Run("Head", func(t *testing.T) {
		a := s.in(t).do("HEAD", "/events?filter=all", "").want(200)
		equal(t, "content type", a.header.Get("Content-Type"), "text/event-stream")
		s.in(t).do("HEAD", "/events?filter=x", "").want(400)
	})

	t.Run("Refused", func(t *testing.T) {
		s := s.in(t)
		s.get("/events?filter=nonsense").problem(400, "invalid_filter", "nonsense", "entity:<type>:<id>")
		s.get("/events?filter=all&filter=").problem(400, "invalid_filter", "notification_type:<type>")
		s.get("/events?"+strings.Repeat("filter=all&", 101)).problem(400, "invalid_filter", "101", "100")
		s.get("/events?filter=%zz").problem(400, "invalid_parameter", "%zz")
		s.get("/events", "Origin", "https://evil.example").problem(403, "forbidden", "evil.example")
	})
}

func TestEvents_Delivery(t *testing.T) {
	t.Parallel()

	t.Run("Notifications", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		st := s.opened("?filter=entity:execution:2&filter=entity_type:execution")
		cursor := s.publish(1, 2)
		equal(t, "first", st.ids(1), []int64{1})
		st.want("", cursor, map[string]any{
			"type": "notification", "notification_type": "execution_status_changed", "entity_type": "execution", "entity_id": 2.0,
			"user_id": nil, "payload": map[string]any{"id": 2.0}, "timestamp": "2026-03-03T19:42:41.123456Z", "cursor": cursor,
		})
		equal(t, "deliveries", s.metric(`attune_deliveries_total{transport="sse"}`), 2)
	})

	t.Run("StatusAndGap", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		st := s.opened("")
		s.hub.SetMode(wire.ModeDegraded)
		s.hub.Gap(wire.GapListenerReconnected)
		cursor := s.hub.Cursor().String()
		s.hub.SetMode(wire.ModeLive)
		s.publish(1)
		st.want("status", "", map[string]any{"type": "status", "mode": "degraded"})
		st.want("gap", cursor, map[string]any{"type": "gap", "reason": "listener_reconnected", "cursor": cursor})
		st.want("status", "", map[string]any{"type": "status", "mode": "live"})
		equal(t, "ids", st.ids(1), []int64{1})
	})

	t.Run("LineBreaksStayInside", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		st := s.opened("")
		n := notification(1)
		n.Payload = json.RawMessage(`{"text":"a\nb\r\n\u2028data: x\n\nid: y"}`)
		s.hub.Publish(n)
		text, _ := object(t, st.block().Data)["payload"].(map[string]any)["text"].(string)
		equal(t, "text", text, "a\nb\r\n\u2028data: x\n\nid: y")
	})
}

func TestEvents_Resume(t *testing.T) {
	t.Parallel()
	s := start(t)
	first := s.publish(1)
	second := s.publish(2)
	s.publish(3)

	t.Run("Query", func(t *testing.T) {
		st := s.in(t).events("?filter=all&cursor=" + first)
		st.block()
		welcome := st.block()
		equal(t, "starts", welcome.ID, first)
		equal(t, "cursor", object(t, welcome.Data)["cursor"], any(first))
		equal(t, "ids", st.ids(2), []int64{2, 3})
	})

	t.Run("HeaderWins", func(t *testing.T) {
		st := s.in(t).opened("?cursor="+first, "Last-Event-ID", second)
		equal(t, "ids", st.ids(1), []int64{3})
		st = s.in(t).events("?cursor="+first, "Last-Event-ID", "nonsense!")
		st.block()
		now := s.hub.Cursor().String()
		equal(t, "starts", st.block().ID, now)
		st.want("gap", now, map[string]any{"type": "gap", "reason": "cursor_invalid", "cursor": now})
	})

	t.Run("Gaps", func(t *testing.T) {
		now := s.hub.Cursor().String()
		for cursor, reason := range map[string]string{
			"": "cursor_invalid", "x": "cursor_invalid", "other.1": "cursor_unknown", now + "0": "cursor_unknown",
		} {
			st := s.in(t).opened("?cursor=" + cursor)
			st.want("gap", now, map[string]any{"type": "gap", "reason": reason, "cursor": now})
		}
	})

	t.Run("NeitherHoleNorDuplicate", func(t *testing.T) {
		// Reconnecting all the time, with the id of the last event, as a browser does.
		s := s.in(t)
		from := s.publish(4)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for id := range int64(500) {
				s.hub.Publish(notification(100 + id))
			}
		}()
		var got, want []int64
		for len(got) < 500 {
			want = append(want, int64(100+len(want)))
			st := s.events("?filter=all", "Last-Event-ID", from)
			st.block()
			st.block()
			for range min(7, 500-len(got)) {
				e := st.block()
				got = append(got, int64(object(t, e.Data)["entity_id"].(float64)))
				from = e.ID
			}
			_ = st.resp.Body.Close()
		}
		<-done
		for len(want) < 500 {
			want = append(want, int64(100+len(want)))
		}
		equal(t, "ids", got, want)
	})
}

// TestEvents_Client has a client of somebody else's understand the stream.
func TestEvents_Client(t *testing.T) {
	t.Parallel()
	s := start(t)
	from := s.publish(1)
	s.publish(2)

	client := sse.NewClient(s.url + "/events?filter=entity_type:execution")
	client.Connection = s.http
	client.LastEventID.Store([]byte(from))
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 16)
	done := make(chan error, 1)
	go func() {
		done <- client.SubscribeRawWithContext(ctx, func(e *sse.Event) {
			if len(e.Data) > 0 {
				got <- fmt.Sprintf("%s %s %v", e.Event, e.ID, object(t, string(e.Data))["entity_id"])
			}
		})
	}()
	receive := func() string {
		select {
		case e := <-got:
			return e
		case <-time.After(patience):
			t.Fatal("no event")
			return ""
		}
	}
	equal(t, "welcome", receive(), "welcome "+from+" <nil>")
	equal(t, "replayed", receive(), " "+s.hub.Cursor().String()+" 2")
	equal(t, "live", s.publish(3), strings.Fields(receive())[0])
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the client ended with %v", err)
	}
	s.connections("sse", 0)
}

func TestEvents_Method(t *testing.T) {
	t.Parallel()
	s := start(t)
	a := s.do(http.MethodPost, "/events", "")
	a.problem(405, "method_not_allowed", "POST")
	equal(t, "Allow", a.header.Get("Allow"), "GET, HEAD")
}
