package broadcast_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"attune/broadcast"
	"attune/wire"
)

// Publishing costs what the matching subscribers cost: ten thousand who do not match
// cost nothing, neither memory nor time.
func TestHub_Publish_CostsNothingForOthers(t *testing.T) {
	const few, many = 10, 10_000
	costs := func(others int) (allocs float64, fastest time.Duration) {
		h, _ := crowd(t, 0, others)
		n := execution(1)
		allocs = testing.AllocsPerRun(200, func() { h.Publish(n) })
		fastest = math.MaxInt64
		for range 20 {
			start := time.Now()
			for range 200 {
				h.Publish(n)
			}
			fastest = min(fastest, time.Since(start))
		}
		return allocs, fastest
	}
	allocsFew, timeFew := costs(few)
	allocsMany, timeMany := costs(many)
	if allocsFew != allocsMany {
		t.Errorf("%v allocations with %d others, %v with %d", allocsFew, few, allocsMany, many)
	}
	// A look at each of them would take hundreds of times as long.
	if timeMany > 20*timeFew {
		t.Errorf("200 notifications take %v with %d others, %v with %d", timeFew, few, timeMany, many)
	}
}

// Neither does what comes at once from the log: those who do not match stay as they are.
func TestHub_PublishLogged_CostsNothingForOthers(t *testing.T) {
	const few, many, rows = 10, 5_000, 250
	first := func(others int) time.Duration { // the first time makes a difference
		least := time.Duration(math.MaxInt64)
		for range 5 {
			h, _ := crowd(t, 0, others)
			ns := make([]wire.Notification, rows)
			for i := range ns {
				ns[i] = execution(1)
				ns[i].Cursor.Offset = h.Cursor().Offset + uint64(i) + 1
			}
			start := time.Now()
			h.PublishLogged(ns...)
			least = min(least, time.Since(start))
		}
		return least
	}
	if timeFew, timeMany := first(few), first(many); timeMany > 10*timeFew {
		t.Errorf("%d rows take %v with %d others, %v with %d", rows, timeFew, few, timeMany, many)
	}
}

// A delivery allocates nothing: what a notification costs does not depend on how many
// get it.
func TestHub_Publish_AllocatesNothingPerDelivery(t *testing.T) {
	costs := func(matching int) float64 {
		h, subscribers := crowd(t, matching, 0)
		n := execution(1)
		frames := make([]*wire.Frame, 0, 8)
		return testing.AllocsPerRun(100, func() {
			h.Publish(n)
			for _, s := range subscribers {
				var err error
				if frames, err = s.Take(t.Context(), frames[:0]); err != nil || len(frames) != 1 {
					t.Fatalf("got %d messages, %v", len(frames), err)
				}
			}
		})
	}
	if one, many := costs(1), costs(1000); many > one {
		t.Errorf("%v allocations for one subscriber, %v for a thousand", one, many)
	}
}

// Who asked for the latest and reads nothing costs publishing little, however many
// entities wait for him.
func TestHub_Publish_CostsLittleForLatest(t *testing.T) {
	const queue = 1024
	fastest := func(entities int64, opts ...broadcast.ConnectOption) time.Duration {
		h := broadcast.New(broadcast.Options{QueueSize: queue, WindowSize: 16})
		for _, opt := range opts {
			s, _ := h.Connect(opt)
			t.Cleanup(s.Close)
			subscribe(t, s, "all")
		}
		var id int64
		publish := func() time.Duration {
			start := time.Now()
			for range queue {
				h.Publish(execution(id % entities))
				id++
			}
			return time.Since(start)
		}
		publish() // fills the queue
		least := time.Duration(math.MaxInt64)
		for range 5 {
			least = min(least, publish())
		}
		return least
	}
	for _, entities := range []int64{1, queue / 2, 3*queue/4 - 1, queue - 2} {
		alone, stalled := fastest(entities), fastest(entities, broadcast.Latest())
		// To coalesce for each would take hundreds of times as long.
		if stalled > 30*alone {
			t.Errorf("%d notifications of %d entities take %v, and %v with nobody", queue, entities, stalled, alone)
		}
	}
}

// benchmarkPublish publishes n over and over to subscribers, each of whom gets it.
func benchmarkPublish(b *testing.B, h *broadcast.Hub, n wire.Notification, subscribers []*broadcast.Subscriber) {
	b.Helper()
	frames := make([]*wire.Frame, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		h.Publish(n)
		for _, s := range subscribers {
			var err error
			if frames, err = s.Take(b.Context(), frames[:0]); err != nil || len(frames) != 1 {
				b.Fatalf("got %d messages, %v", len(frames), err)
			}
		}
	}
}

func BenchmarkHub_Publish(b *testing.B) {
	for _, matching := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("matching=%d", matching), func(b *testing.B) {
			h, subscribers := crowd(b, matching, 0)
			benchmarkPublish(b, h, execution(1), subscribers)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(matching), "ns/delivery")
		})
	}
	for _, others := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			h, _ := crowd(b, 0, others)
			benchmarkPublish(b, h, execution(1), nil)
		})
	}
}

func BenchmarkSubscriber_Replay(b *testing.B) {
	const retained = 10_000
	h := broadcast.New(broadcast.Options{QueueSize: 16, WindowSize: retained})
	start := h.Cursor().String()
	for id := range int64(retained) {
		h.Publish(execution(id))
	}
	list := filters(b, "entity_type:execution")
	ack := func(broadcast.Start) []wire.ServerMessage { return nil }
	var frames []*wire.Frame
	b.ReportAllocs()
	for b.Loop() {
		s, _ := h.Connect()
		if err := s.Subscribe(b.Context(), list, &start, ack); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < retained; got += len(frames) {
			var err error
			if frames, err = s.Next(b.Context(), frames[:0]); err != nil {
				b.Fatal(err)
			}
		}
		s.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/retained, "ns/delivery")
}

// crowd returns a hub with subscribers that match execution(1), with their queues
// empty and used once, and with others that do not.
func crowd(tb testing.TB, matching, others int) (*broadcast.Hub, []*broadcast.Subscriber) {
	tb.Helper()
	h := broadcast.New(broadcast.Options{QueueSize: 16, WindowSize: 16})
	subscribers := make([]*broadcast.Subscriber, matching)
	for i := range subscribers {
		subscribers[i] = connect(tb, h)
		subscribe(tb, subscribers[i], "entity:execution:1")
		drain(tb, subscribers[i])
	}
	for i := range others {
		subscribe(tb, connect(tb, h), fmt.Sprintf("entity:execution:%d", 2+i), "entity_type:inquiry")
	}
	for range 17 { // a window that is full stays as large as it is
		h.Publish(execution(1))
		for _, s := range subscribers {
			if _, err := s.Take(tb.Context(), nil); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return h, subscribers
}
