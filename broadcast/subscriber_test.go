package broadcast_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

func TestSubscriber_Subscribe_AckFirst(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	h.SetMode(wire.ModeLive)
	h.Publish(execution(1))
	s := connect(t, h)
	var got broadcast.Start
	err := s.Subscribe(t.Context(), filters(t, "all"), nil, func(start broadcast.Start) []wire.ServerMessage {
		got = start
		return []wire.ServerMessage{wire.Welcome{Mode: start.Mode}, wire.Subscribed{Filter: "all", Cursor: start.Cursor}}
	})
	if err != nil {
		t.Fatal(err)
	}
	now := h.Cursor()
	diff(t, "start", broadcast.Start{Cursor: now, Mode: wire.ModeLive}, got)
	n := execution(2)
	h.Publish(n)
	n.Cursor = h.Cursor()
	diff(t, "messages", []wire.ServerMessage{wire.Welcome{Mode: wire.ModeLive}, wire.Subscribed{Filter: "all", Cursor: now}, n}, drain(t, s))
}

// Later subscriptions find their place between the notifications.
func TestSubscriber_Subscribe_AckInOrder(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	s := connect(t, h)
	var want []wire.ServerMessage
	publish := func(id int64, delivered bool) {
		n := execution(id)
		h.Publish(n)
		n.Cursor = h.Cursor()
		if delivered {
			want = append(want, n)
		}
	}
	add := func(text string) {
		subscribe(t, s, text)
		want = append(want, wire.Subscribed{Filter: text, Cursor: h.Cursor()})
	}
	add("entity:execution:1")
	publish(1, true)
	publish(2, false)
	add("entity:execution:2")
	publish(2, true)
	publish(1, true)
	add("all")
	publish(3, true)
	diff(t, "messages", want, drain(t, s))
}

// Next waits from the moment of connecting, as a connection's writer does: whenever
// the subscription comes, its acknowledgement is the first thing that it brings.
func TestSubscriber_Subscribe_AckPrecedesReplay(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 16, WindowSize: 16})
	start := h.Cursor().String()
	h.Publish(execution(1))
	for range 20_000 {
		s, _ := h.Connect()
		var first []*wire.Frame
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { first, err = s.Next(t.Context(), nil) })
		resume(t, s, start, "all")
		wg.Wait()
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := first[0].Message.(wire.Subscribed); !ok {
			t.Fatalf("the first message is a %T, want the acknowledgement", first[0].Message)
		}
	}
}

func TestSubscriber_Subscribe_NotFirst(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	start := h.Cursor().String()
	s := connect(t, h)
	subscribe(t, s, "entity:execution:1")
	list := filters(t, "all")
	for _, cursor := range []string{start, "nonsense", ""} {
		err := s.Subscribe(t.Context(), list, &cursor, func(broadcast.Start) []wire.ServerMessage {
			t.Error("a refused subscription was acknowledged")
			return nil
		})
		if !errors.Is(err, broadcast.ErrNotFirst) {
			t.Errorf("with cursor %q: got %v, want %v", cursor, err, broadcast.ErrNotFirst)
		}
	}
	h.Publish(execution(2)) // the filter was not added
	h.Publish(execution(1)) // and the first goes on
	subscribe(t, s, "entity:execution:3")
	h.Publish(execution(3))
	diff(t, "received", []int64{1, 3}, ids(drain(t, s)))
}

// The first subscription stays the first when its filters are gone again.
func TestSubscriber_Subscribe_NotFirstAfterUnsubscribe(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	s := connect(t, h)
	subscribe(t, s, "all")
	s.Unsubscribe(filters(t, "all")[0], wire.Unsubscribed{Filter: "all"})
	cursor, list := h.Cursor().String(), filters(t, "all")
	if err := s.Subscribe(t.Context(), list, &cursor, acknowledge(list)); !errors.Is(err, broadcast.ErrNotFirst) {
		t.Errorf("got %v, want %v", err, broadcast.ErrNotFirst)
	}
}

func TestSubscriber_Subscribe_TooManyFilters(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 1000, WindowSize: 10})
	start := h.Cursor().String()
	many := make([]string, 0, broadcast.MaxFilters)
	for i := range broadcast.MaxFilters {
		many = append(many, fmt.Sprintf("entity:execution:%d", i))
	}
	s := connect(t, h)
	refuse := func(texts ...string) {
		t.Helper()
		err := s.Subscribe(t.Context(), filters(t, texts...), nil, func(broadcast.Start) []wire.ServerMessage {
			t.Error("a refused subscription was acknowledged")
			return nil
		})
		if !errors.Is(err, broadcast.ErrTooManyFilters) {
			t.Errorf("%d filters more: got %v, want %v", len(texts), err, broadcast.ErrTooManyFilters)
		}
	}
	refuse(append([]string{"all"}, many...)...)
	diff(t, "filters after a refusal", 0, h.Stats().Filters)
	resume(t, s, start, append([]string{many[0], many[0]}, many...)...) // still the first; what stands twice counts once
	diff(t, "filters", broadcast.MaxFilters, h.Stats().Filters)
	refuse("all")
	refuse(many[0], "all")
	subscribe(t, s, many...) // nothing new
	s.Unsubscribe(filters(t, many[7])[0], wire.Unsubscribed{Filter: many[7]})
	refuse("all", "user:1")
	subscribe(t, s, "user:1")
	drain(t, s)
	h.Publish(execution(7))
	h.Publish(execution(8))
	diff(t, "received", []int64{8}, ids(drain(t, s)))
}

// A filter that is there already is acknowledged and brings nothing twice.
func TestSubscriber_Subscribe_Duplicate(t *testing.T) {
	all := filters(t, "all")[0]
	for _, name := range []string{"live", "replayed"} {
		t.Run(name, func(t *testing.T) {
			h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 10})
			start := h.Cursor().String()
			h.Publish(execution(1))
			s := connect(t, h)
			if name == "live" {
				subscribe(t, s, "all", "all")
			} else {
				resume(t, s, start, "all", "all")
			}
			subscribe(t, s, "all")
			got := drain(t, s)
			acks := 0
			for _, m := range got {
				if _, ok := m.(wire.Subscribed); ok {
					acks++
				}
			}
			diff(t, "acknowledgements", 3, acks)
			if name == "replayed" {
				diff(t, "replayed", []int64{1}, ids(got))
			}
			h.Publish(execution(2))
			diff(t, "live", []int64{2}, ids(drain(t, s)))
			s.Unsubscribe(all, wire.Unsubscribed{Filter: "all"}) // once is enough
			h.Publish(execution(3))
			diff(t, "after unsubscribing", []wire.ServerMessage{wire.Unsubscribed{Filter: "all"}}, drain(t, s))
			diff(t, "filters", 0, h.Stats().Filters)
		})
	}
}

// The acknowledgement follows the last notification that the filter brought.
func TestSubscriber_Unsubscribe(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 10})
	s := connect(t, h)
	subscribe(t, s, "entity:execution:1", "entity_type:execution", "user:7")
	drain(t, s)
	var want []wire.ServerMessage
	publish := func(id int64, delivered bool) {
		n := execution(id)
		h.Publish(n)
		n.Cursor = h.Cursor()
		if delivered {
			want = append(want, n)
		}
	}
	remove := func(text string) {
		ack := wire.Unsubscribed{Filter: text}
		s.Unsubscribe(filters(t, text)[0], ack)
		want = append(want, ack)
	}
	publish(1, true)
	publish(2, true)
	remove("entity_type:execution")
	publish(2, false)
	publish(1, true)
	remove("user:8") // which was never there
	publish(1, true)
	remove("entity:execution:1")
	publish(1, false)
	remove("entity:execution:1")
	subscribe(t, s, "entity:execution:1")
	want = append(want, wire.Subscribed{Filter: "entity:execution:1", Cursor: h.Cursor()})
	publish(1, true)
	diff(t, "messages", want, drain(t, s))
}

// Leaving in any order takes the leaver out of the index and nobody else.
func TestSubscriber_Unsubscribe_AnyOrder(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 10})
	all := filters(t, "all")[0]
	for leaver := range 4 {
		var subscribers []*broadcast.Subscriber
		for range 4 {
			s := connect(t, h)
			subscribe(t, s, "all", "entity_type:execution")
			subscribers = append(subscribers, s)
		}
		subscribers[leaver].Unsubscribe(all, wire.Unsubscribed{Filter: "all"})
		n := execution(1)
		n.EntityType = "other" // only "all" matches
		h.Publish(n)
		subscribers[(leaver+1)%4].Close()
		h.Publish(n)
		h.Publish(execution(2))
		for i, s := range subscribers {
			switch i {
			case leaver:
				diff(t, "the leaver's", []int64{2}, ids(drain(t, s)))
			case (leaver + 1) % 4:
			default:
				diff(t, "who stayed", []int64{1, 1, 2}, ids(drain(t, s)))
			}
			s.Close()
		}
		diff(t, "filters left", 0, h.Stats().Filters)
	}
}

func TestSubscriber_Send(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 10})
	s, other := connect(t, h), connect(t, h)
	s.Send(wire.Pong{}) // without a filter
	subscribe(t, s, "all")
	first, second := execution(1), execution(2)
	h.Publish(first)
	first.Cursor = h.Cursor()
	s.Send(&wire.Error{Code: wire.CodeUnknownType, Message: "what?"})
	h.Publish(second)
	second.Cursor = h.Cursor()
	got := drain(t, s)
	refused, ok := got[3].(*wire.Error)
	if !ok || refused.Code != wire.CodeUnknownType {
		t.Errorf("got %v, want the error", got[3])
	}
	got = append(got[:3:3], got[4:]...)
	diff(t, "the others", []wire.ServerMessage{
		wire.Pong{}, wire.Subscribed{Filter: "all", Cursor: wire.Cursor{Epoch: h.Cursor().Epoch}}, first, second,
	}, got)
	diff(t, "another's messages", []wire.ServerMessage{}, drain(t, other))
}

// In whatever state a subscriber is closed, Next says so, and the hub keeps nothing.
func TestSubscriber_Close(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *broadcast.Hub, *broadcast.Subscriber, string){
		"Unsubscribed": func(*testing.T, *broadcast.Hub, *broadcast.Subscriber, string) {},
		"Live": func(t *testing.T, _ *broadcast.Hub, s *broadcast.Subscriber, _ string) {
			t.Helper()
			subscribe(t, s, "all", "user:1")
			drain(t, s)
		},
		"Queued": func(t *testing.T, h *broadcast.Hub, s *broadcast.Subscriber, _ string) {
			t.Helper()
			subscribe(t, s, "all")
			h.Publish(execution(1))
		},
		"BeforeReplay": func(t *testing.T, _ *broadcast.Hub, s *broadcast.Subscriber, start string) {
			t.Helper()
			resume(t, s, start, "all", "user:1")
		},
		"InReplay": func(t *testing.T, _ *broadcast.Hub, s *broadcast.Subscriber, start string) {
			t.Helper()
			resume(t, s, start, "all", "user:1")
			if got := len(next(t, s)); got > 900 {
				t.Fatalf("%d messages at once: nothing is left to be closed in", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 1000})
			start := h.Cursor().String()
			for id := range int64(1000) {
				h.Publish(execution(id))
			}
			s := connect(t, h)
			prepare(t, h, s, start)
			for range 2 {
				s.Close()
				if got, err := s.Next(t.Context(), nil); !errors.Is(err, broadcast.ErrClosed) || len(got) > 0 {
					t.Errorf("next: got %v and %v, want %v", got, err, broadcast.ErrClosed)
				}
			}
			list := filters(t, "all")
			if err := s.Subscribe(t.Context(), list, nil, acknowledge(list)); !errors.Is(err, broadcast.ErrClosed) {
				t.Errorf("subscribe: got %v, want %v", err, broadcast.ErrClosed)
			}
			s.Unsubscribe(list[0], wire.Unsubscribed{})
			s.Send(wire.Pong{})
			h.Publish(execution(1))
			h.Gap(wire.GapSourceOverflow)
			h.SetMode(wire.ModeLive)
			if got, err := s.Take(t.Context(), nil); !errors.Is(err, broadcast.ErrClosed) || len(got) > 0 {
				t.Errorf("take: got %v and %v, want %v", got, err, broadcast.ErrClosed)
			}
			stats := h.Stats()
			diff(t, "left over", []int{0, 0, 0}, []int{stats.Subscribers, stats.Filters, stats.Queued})
		})
	}
}

// Why a subscriber ended is the first reason that it had.
func TestSubscriber_Close_AfterSlowConsumer(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 1, WindowSize: 10})
	s := connect(t, h)
	subscribe(t, s, "all")
	h.Publish(execution(1))
	s.Close()
	if _, err := s.Take(t.Context(), nil); !errors.Is(err, broadcast.ErrSlowConsumer) {
		t.Errorf("got %v, want %v", err, broadcast.ErrSlowConsumer)
	}
}

func TestSubscriber_Close_Concurrently(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 600})
	stop := make(chan struct{})
	var publisher, subscribers sync.WaitGroup
	publisher.Go(func() {
		for id := int64(0); ; id++ {
			select {
			case <-stop:
				return
			default:
				h.Publish(execution(id % 3))
			}
		}
	})
	for range 8 {
		subscribers.Go(func() {
			var last string
			for i := range 100 {
				s, _ := h.Connect()
				var wg sync.WaitGroup
				wg.Go(func() {
					var frames []*wire.Frame
					for {
						var err error
						if frames, err = s.Next(t.Context(), frames[:0]); err != nil {
							return
						}
					}
				})
				list := filters(t, "all", "entity:execution:1", "entity:execution:2")
				_ = s.Subscribe(t.Context(), list, &last, acknowledge(list)) // may be slow already
				last = h.Cursor().String()
				if i%2 == 0 {
					s.Unsubscribe(list[i%3], wire.Unsubscribed{})
				}
				wg.Go(s.Close)
				s.Close()
				wg.Wait()
			}
		})
	}
	subscribers.Wait()
	close(stop)
	publisher.Wait()
	stats := h.Stats()
	diff(t, "left over", []int{0, 0, 0}, []int{stats.Subscribers, stats.Filters, stats.Queued})
}
