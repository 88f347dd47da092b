package broadcast_test

import (
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// Each form of filter brings what it matches and nothing else.
func TestHub_Publish_ByFilter(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 100, WindowSize: 100})
	text, err := wire.StringID("42")
	if err != nil {
		t.Fatal(err)
	}
	published := []wire.Notification{
		{NotificationType: "execution_created", EntityType: "execution", EntityID: wire.IntID(42), UserID: new(int64(7))},
		{NotificationType: "execution_status_changed", EntityType: "execution", EntityID: wire.IntID(43)},
		{NotificationType: "attune_notifications", EntityType: "inquiry", EntityID: wire.IntID(42), UserID: new(int64(8))},
		{NotificationType: "orders", EntityType: "execution", EntityID: text},
	}
	want := map[string][]int{
		"all":                                 {0, 1, 2, 3},
		"entity_type:execution":               {0, 1, 3},
		"entity_type:order":                   nil,
		"entity:execution:42":                 {0, 3},
		"entity:inquiry:42":                   {2},
		"entity:inquiry:43":                   nil,
		"notification_type:execution_created": {0},
		"notification_type:execution":         nil,
		"user:7":                              {0},
		"user:42":                             nil,
	}
	subscribers := make(map[string]*broadcast.Subscriber)
	for text := range want {
		subscribers[text] = connect(t, h)
		subscribe(t, subscribers[text], text)
		drain(t, subscribers[text])
	}
	for i, n := range published {
		n.Payload = json.RawMessage(`{}`)
		h.Publish(n)
		for text, s := range subscribers {
			got := 0
			for _, m := range drain(t, s) {
				n.Cursor = h.Cursor()
				diff(t, text, wire.ServerMessage(n), m)
				got++
			}
			expected := 0
			if slices.Contains(want[text], i) {
				expected = 1
			}
			if got != expected {
				t.Errorf("%s: notification %d delivered %d times, want %d", text, i, got, expected)
			}
		}
	}
}

// However many filters of one subscriber match, the notification comes once.
func TestHub_Publish_OnceForSeveralFilters(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 100, WindowSize: 100})
	start := h.Cursor().String()
	texts := []string{"all", "entity_type:execution", "entity:execution:1", "user:7", "notification_type:execution_status_changed"}
	live := connect(t, h)
	subscribe(t, live, texts...)
	n := execution(1)
	n.UserID = new(int64(7))
	h.Publish(n)
	h.Publish(execution(2))
	diff(t, "live", []int64{1, 2}, ids(drain(t, live)))
	late := connect(t, h)
	resume(t, late, start, texts...)
	diff(t, "replayed", []int64{1, 2}, ids(drain(t, late)))
}

func TestHub_Publish_NothingWithoutFilter(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 1, WindowSize: 100})
	s := connect(t, h)
	for id := range int64(10) {
		h.Publish(execution(id))
	}
	h.Gap(wire.GapListenerReconnected)
	diff(t, "messages", []wire.ServerMessage{}, drain(t, s))
}

// All filters of a subscriber share one order, that of publishing.
func TestHub_Publish_Order(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 2000, WindowSize: 10})
	s := connect(t, h)
	subscribe(t, s, "entity:execution:0", "entity:execution:1", "user:1", "notification_type:other", "entity_type:inquiry")
	drain(t, s)
	var want []wire.ServerMessage
	for i := range int64(1000) {
		n := execution(i % 3)
		switch i % 5 {
		case 1:
			n.UserID = new(int64(1))
		case 2:
			n.EntityType = "inquiry"
		case 3:
			n.NotificationType = "other"
		}
		h.Publish(n)
		if i%3 < 2 || i%5 >= 1 && i%5 <= 3 {
			n.Cursor = h.Cursor()
			want = append(want, n)
		}
	}
	diff(t, "received", want, drain(t, s))
}

// Whoever publishes, everybody sees the same order, and each publisher's own is kept.
func TestHub_Publish_Concurrently(t *testing.T) {
	const publishers, each = 4, 500
	h := broadcast.New(broadcast.Options{QueueSize: publishers*each + 10, WindowSize: 1})
	a, b := connect(t, h), connect(t, h)
	subscribe(t, a, "all")
	subscribe(t, b, "entity_type:execution")
	drain(t, a)
	drain(t, b)
	var wg sync.WaitGroup
	for p := range int64(publishers) {
		wg.Go(func() {
			for i := range int64(each) {
				h.Publish(execution(p*each + i))
			}
		})
	}
	wg.Wait()
	got := drain(t, a)
	diff(t, "the second subscriber's messages", got, drain(t, b))
	last := make(map[int64]int64)
	var offset uint64
	for _, m := range got {
		n, ok := m.(wire.Notification)
		if !ok {
			t.Fatalf("got a %T", m)
		}
		if n.Cursor.Offset <= offset {
			t.Fatalf("cursor %s after offset %d", n.Cursor, offset)
		}
		offset = n.Cursor.Offset
		id, _ := n.EntityID.Int64()
		if before, ok := last[id/each]; ok && id != before+1 {
			t.Fatalf("publisher %d: %d after %d", id/each, id, before)
		}
		last[id/each] = id
	}
	if len(got) != publishers*each {
		t.Errorf("got %d notifications, want %d", len(got), publishers*each)
	}
}

// One encoding serves every subscriber, live or late.
func TestHub_Publish_EncodedOnce(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	start := h.Cursor().String()
	a, b, late := connect(t, h), connect(t, h), connect(t, h)
	for _, s := range []*broadcast.Subscriber{a, b} {
		subscribe(t, s, "all")
		drain(t, s)
	}
	h.Publish(execution(1))
	resume(t, late, start, "all")
	var frames []*wire.Frame
	for _, s := range []*broadcast.Subscriber{a, b, late} {
		got, err := s.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, got[len(got)-1])
	}
	if frames[0] != frames[1] || frames[0] != frames[2] {
		t.Error("the subscribers got frames of their own")
	}
}

// A full queue ends its subscriber. Nobody else notices, Publish least of all.
func TestHub_Publish_QueueFull(t *testing.T) {
	const queue = 3
	h := broadcast.New(broadcast.Options{QueueSize: queue, WindowSize: 100})
	slow, fast := connect(t, h), connect(t, h)
	subscribe(t, slow, "all", "entity_type:execution")
	subscribe(t, fast, "all")
	drain(t, fast)
	diff(t, "acknowledgements", 2, len(drain(t, slow)))
	last := h.Cursor().String()

	for id := range int64(queue) {
		h.Publish(execution(id))
	}
	diff(t, "a queue that is full to the brim", upTo(0, queue-1), ids(drain(t, slow)))
	diff(t, "the other's", upTo(0, queue-1), ids(drain(t, fast)))

	for id := range int64(queue + 2) { // nobody takes from slow
		h.Publish(execution(queue + id))
		diff(t, "the other's", []int64{queue + id}, ids(drain(t, fast)))
	}
	got, err := drainError(t, slow)
	if !errors.Is(err, broadcast.ErrSlowConsumer) || len(got) > 0 {
		t.Fatalf("got %v and %v, want %v alone", got, err, broadcast.ErrSlowConsumer)
	}
	stats := h.Stats()
	diff(t, "subscribers and filters", []int{1, 1}, []int{stats.Subscribers, stats.Filters})

	again := connect(t, h) // and misses nothing
	resume(t, again, last, "all")
	diff(t, "resumed", upTo(0, 2*queue+1), ids(drain(t, again)))
}

// What is not a notification counts too: a client that pings without reading is slow.
func TestHub_QueueFull_ByOtherMessages(t *testing.T) {
	fill := map[string]func(*broadcast.Hub, *broadcast.Subscriber){
		"Send":        func(_ *broadcast.Hub, s *broadcast.Subscriber) { s.Send(wire.Pong{}) },
		"Unsubscribe": func(_ *broadcast.Hub, s *broadcast.Subscriber) { s.Unsubscribe(wire.Filter{}, wire.Unsubscribed{}) },
		"Gap":         func(h *broadcast.Hub, _ *broadcast.Subscriber) { h.Gap(wire.GapSourceOverflow) },
		"SetMode": func(h *broadcast.Hub, _ *broadcast.Subscriber) {
			if h.Mode() == wire.ModeLive {
				h.SetMode(wire.ModeDegraded)
			} else {
				h.SetMode(wire.ModeLive)
			}
		},
	}
	for name, call := range fill {
		t.Run(name, func(t *testing.T) {
			h := broadcast.New(broadcast.Options{QueueSize: 4, WindowSize: 100})
			s := connect(t, h)
			subscribe(t, s, "all", "user:1")
			drain(t, s)
			for range 5 {
				call(h, s)
			}
			if _, err := drainError(t, s); !errors.Is(err, broadcast.ErrSlowConsumer) {
				t.Errorf("got %v, want %v", err, broadcast.ErrSlowConsumer)
			}
			list := filters(t, "user:2")
			if err := s.Subscribe(t.Context(), list, nil, acknowledge(list)); !errors.Is(err, broadcast.ErrSlowConsumer) {
				t.Errorf("subscribe: got %v, want %v", err, broadcast.ErrSlowConsumer)
			}
			stats := h.Stats()
			diff(t, "subscribers and filters", []int{0, 0}, []int{stats.Subscribers, stats.Filters})
		})
	}
}

// A gap takes its place between the notifications, for everybody who has a filter.
func TestHub_Gap_InOrder(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	a, b, none, gone := connect(t, h), connect(t, h), connect(t, h), connect(t, h)
	subscribe(t, a, "all")
	subscribe(t, b, "user:7") // matches nothing here
	subscribe(t, gone, "all")
	gone.Unsubscribe(filters(t, "all")[0], wire.Unsubscribed{Filter: "all"})
	for _, s := range []*broadcast.Subscriber{a, b, gone} {
		drain(t, s)
	}
	first, second := execution(1), execution(2)
	h.Publish(first)
	first.Cursor = h.Cursor()
	h.Gap(wire.GapListenerReconnected)
	gap := wire.Gap{Reason: wire.GapListenerReconnected, Cursor: h.Cursor()}
	h.Publish(second)
	second.Cursor = h.Cursor()

	diff(t, "with a filter that matches", []wire.ServerMessage{first, gap, second}, drain(t, a))
	diff(t, "with one that does not", []wire.ServerMessage{gap}, drain(t, b))
	diff(t, "without", []wire.ServerMessage{}, drain(t, none))
	diff(t, "unsubscribed", []wire.ServerMessage{}, drain(t, gone))
	if first.Cursor.Offset >= gap.Cursor.Offset || gap.Cursor.Offset >= second.Cursor.Offset {
		t.Errorf("cursors %s, %s, %s do not grow", first.Cursor, gap.Cursor, second.Cursor)
	}
}

// From before a gap nobody resumes unwarned; from the gap itself everybody does.
func TestHub_Gap_InvalidatesCursors(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 100, WindowSize: 100})
	before := []string{h.Cursor().String()}
	for id := range int64(5) {
		h.Publish(execution(id))
		before = append(before, h.Cursor().String())
	}
	h.Gap(wire.GapListenerReconnected)
	at := h.Cursor().String()
	h.Publish(execution(5))
	between := h.Cursor().String()
	h.Publish(execution(6))
	for _, cursor := range before {
		s := connect(t, h)
		resume(t, s, cursor, "all")
		now := h.Cursor()
		diff(t, "from "+cursor, []wire.ServerMessage{
			wire.Subscribed{Filter: "all", Cursor: now}, wire.Gap{Reason: wire.GapListenerReconnected, Cursor: now},
		}, drain(t, s))
	}
	for cursor, want := range map[string][]int64{at: {5, 6}, between: {6}} {
		s := connect(t, h)
		resume(t, s, cursor, "all")
		got := drain(t, s)
		diff(t, "from "+cursor, want, ids(got))
		diff(t, "messages from "+cursor, len(want)+1, len(got))
	}
	// The reason of the last one counts.
	h.Gap(wire.GapSourceOverflow)
	for _, cursor := range append(before, at, between) {
		s := connect(t, h)
		resume(t, s, cursor, "all")
		gap, ok := drain(t, s)[1].(wire.Gap)
		if !ok || gap.Reason != wire.GapSourceOverflow {
			t.Errorf("from %s: got %v, want %s", cursor, gap, wire.GapSourceOverflow)
		}
	}
}

// Everybody hears of the source's health, once per change, in its place.
func TestHub_SetMode(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	if mode := h.Mode(); mode != wire.ModeDegraded {
		t.Errorf("a new hub is %s: nothing has proved the source yet", mode)
	}
	none, mode := h.Connect()
	t.Cleanup(none.Close)
	if mode != wire.ModeDegraded {
		t.Errorf("Connect returned %s", mode)
	}
	s := connect(t, h)
	subscribe(t, s, "all")
	drain(t, s)

	h.SetMode(wire.ModeDegraded)
	h.SetMode(wire.ModeLive)
	h.SetMode(wire.ModeLive)
	n := execution(1)
	h.Publish(n)
	n.Cursor = h.Cursor()
	h.SetMode(wire.ModeDegraded)
	h.SetMode(wire.ModeDegraded)
	live, degraded := wire.SourceStatus{Mode: wire.ModeLive}, wire.SourceStatus{Mode: wire.ModeDegraded}
	diff(t, "with a filter", []wire.ServerMessage{live, n, degraded}, drain(t, s))
	diff(t, "without", []wire.ServerMessage{live, degraded}, drain(t, none))

	h.SetMode(wire.ModeLive)
	late, mode := h.Connect()
	t.Cleanup(late.Close)
	if mode != wire.ModeLive || h.Mode() != wire.ModeLive {
		t.Errorf("Connect returned %s, Mode %s", mode, h.Mode())
	}
	diff(t, "who came later", []wire.ServerMessage{}, drain(t, late))
}

func TestHub_EpochsDiffer(t *testing.T) {
	a, b := broadcast.New(broadcast.Options{}), broadcast.New(broadcast.Options{})
	if a.Cursor().Epoch == b.Cursor().Epoch {
		t.Errorf("two hubs have the epoch %q", a.Cursor().Epoch)
	}
	if _, ok := wire.ParseCursor(a.Cursor().String()); !ok {
		t.Errorf("%q is no cursor", a.Cursor())
	}
}

func TestHub_Stats(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 100, WindowSize: 4})
	diff(t, "a new hub", broadcast.Stats{Mode: wire.ModeDegraded, Cursor: h.Cursor(), Gaps: map[wire.GapReason]uint64{}}, h.Stats())

	h.SetMode(wire.ModeLive)
	a, b, c := connect(t, h), connect(t, h), connect(t, h)
	subscribe(t, a, "all", "user:1")
	subscribe(t, b, "all", "entity:execution:2")
	for _, s := range []*broadcast.Subscriber{a, b, c} {
		drain(t, s)
	}
	for id := range int64(6) {
		h.Publish(execution(id))
	}
	drain(t, a)
	h.Publish(execution(7))
	diff(t, "in use", broadcast.Stats{
		Mode: wire.ModeLive, Cursor: h.Cursor(), Subscribers: 3, Filters: 3, Retained: 4, Queued: 8, QueuedMost: 7, QueuedBytes: 8 * 204, QueuedBytesMost: 7 * 204,
		Gaps: map[wire.GapReason]uint64{},
	}, h.Stats())

	h.Gap(wire.GapSourceOverflow) // announced to a and b
	resume(t, c, "nonsense", "all")
	stats := h.Stats()
	diff(t, "gaps", map[wire.GapReason]uint64{wire.GapSourceOverflow: 2, wire.GapCursorInvalid: 1}, stats.Gaps)
	diff(t, "retained after a gap", 0, stats.Retained)
	stats.Gaps[wire.GapCursorUnknown] = 9 // a snapshot is the caller's
	diff(t, "a gap that was not", uint64(0), h.Stats().Gaps[wire.GapCursorUnknown])

	for _, s := range []*broadcast.Subscriber{a, b, c} {
		s.Close()
	}
	stats = h.Stats()
	diff(t, "left over", []int{0, 0, 0, 0, 0}, []int{stats.Subscribers, stats.Filters, stats.Queued, stats.QueuedMost, stats.QueuedBytesMost})
}
