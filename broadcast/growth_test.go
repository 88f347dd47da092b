package broadcast_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"attune/broadcast"
)

// BenchmarkGrowth shows how cost grows with one thing at a time; bench/plot draws it.
func BenchmarkGrowth(b *testing.B) {
	x := func(n int) string { return fmt.Sprintf("x=%d", n) }

	for _, others := range []int{1, 10, 100, 1_000, 10_000} {
		b.Run("Others/"+x(others), func(b *testing.B) {
			h, _ := crowd(b, 0, others)
			benchmarkPublish(b, h, execution(1), nil)
		})
	}
	for _, matching := range []int{1, 10, 100, 1_000, 10_000} {
		b.Run("Matching/"+x(matching), func(b *testing.B) {
			h, subscribers := crowd(b, matching, 0)
			benchmarkPublish(b, h, execution(1), subscribers)
		})
	}
	for _, each := range []int{1, 10, 100} {
		b.Run("FiltersEach/"+x(each), func(b *testing.B) {
			h, subscribers := crowd(b, 100, 0)
			for _, s := range subscribers {
				for i := range each - 1 {
					subscribe(b, s, fmt.Sprintf("entity:execution:%d", 2+i))
					drain(b, s)
				}
			}
			benchmarkPublish(b, h, execution(1), subscribers)
		})
	}
	for _, size := range []int{1, 100, 10_000, 1_000_000} {
		b.Run("Window/"+x(size), func(b *testing.B) {
			h := broadcast.New(broadcast.Options{QueueSize: 16, WindowSize: size})
			for range min(size, 100_000) {
				h.Publish(execution(1))
			}
			benchmarkPublish(b, h, execution(1), nil)
		})
	}
	for _, size := range []int{100, 1_000, 10_000, 100_000} {
		b.Run("Payload/"+x(size), func(b *testing.B) {
			h, subscribers := crowd(b, 100, 0)
			n := execution(1)
			n.Payload = json.RawMessage(`{"pad":"` + strings.Repeat("x", size-len(`{"pad":""}`)) + `"}`)
			benchmarkPublish(b, h, n, subscribers)
		})
	}
	// Frames are shared, so what a queue takes is its places.
	for _, fill := range []int{1, 16, 64, 256, 1024} {
		b.Run("QueueFill/"+x(fill), func(b *testing.B) {
			const subscribers = 1000
			var bytes uint64
			for range b.N {
				h := broadcast.New(broadcast.Options{QueueSize: 1024, WindowSize: 1024})
				list := make([]*broadcast.Subscriber, subscribers)
				for i := range list {
					list[i] = connect(b, h)
					subscribe(b, list[i], "all")
					drain(b, list[i])
				}
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				for i := range fill {
					h.Publish(execution(int64(i)))
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				bytes += after.HeapAlloc - before.HeapAlloc
				runtime.KeepAlive(list)
			}
			b.ReportMetric(float64(bytes)/float64(b.N)/subscribers, "B/subscriber")
		})
	}
}
