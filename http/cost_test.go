package http_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attune/attunetest"
	"attune/wire"
)

// A delivery allocates nothing, from Publish to the socket: what a notification costs
// does not depend on how many get it. Some of what is counted is the runtime's, for its
// own goroutines.
func TestDelivery_AllocatesNothing(t *testing.T) {
	const rounds, most = 100, 0.01
	for _, transport := range []string{"ws", "sse"} {
		for _, atOnce := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s/%d", transport, atOnce), func(t *testing.T) {
				allocated := func(followers int) float64 {
					c := follow(start(t), transport, followers)
					c.publish(atOnce) // as often as it takes until all have what they keep
					for range rounds {
						c.publish(atOnce)
					}
					before := mallocs()
					for range rounds {
						c.publish(atOnce)
					}
					return float64(mallocs() - before)
				}
				const few, many = 1, 201
				each := (allocated(many) - allocated(few)) / (rounds * float64(atOnce) * (many - few))
				t.Logf("%.4f allocations for each delivery, race detector %t", each, attunetest.RaceEnabled())
				if !attunetest.RaceEnabled() && each > most { // with it, a sync.Pool forgets at random
					t.Errorf("%.4f allocations for each delivery, want at most %v", each, most)
				}
			})
		}
	}
}

// BenchmarkDelivery is what a notification takes from Publish to clients that read it,
// over sockets; several at a time are written together.
func BenchmarkDelivery(b *testing.B) {
	for _, transport := range []string{"ws", "sse"} {
		for _, c := range []struct{ followers, atOnce int }{{1, 1}, {1, 16}, {200, 1}, {200, 16}, {200, 128}} {
			b.Run(fmt.Sprintf("%s/followers=%d/atonce=%d", transport, c.followers, c.atOnce), func(b *testing.B) {
				crowd := follow(start(b), transport, c.followers)
				crowd.publish(c.atOnce)
				before := mallocs()
				for b.Loop() {
					crowd.publish(c.atOnce)
				}
				deliveries := float64(b.N * c.followers * c.atOnce)
				b.ReportMetric(float64(mallocs()-before)/deliveries, "allocs/delivery")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
			})
		}
	}
}

func BenchmarkGetExecution(b *testing.B) {
	k := startStack(b, false)
	id := k.insert(wire.StatusRunning)
	url := k.url + path(id)
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := k.http.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
}

// crowd are clients that follow everything, and allocate nothing to read it.
type crowd struct {
	server    *server
	followers int
	what      wire.Notification
	ctx       context.Context //nolint:containedctx // ends with the first client that cannot go on
	wanted    atomic.Int64    // deliveries so far
	delivered atomic.Int64
	all       chan struct{} // all have been delivered
}

// follow opens streams, which are closed when the test ends.
func follow(s *server, transport string, followers int) *crowd {
	s.t.Helper()
	ctx, failed := context.WithCancelCause(context.Background())
	c := &crowd{server: s, followers: followers, what: large(1, 350), ctx: ctx, all: make(chan struct{}, 1)}
	var readers sync.WaitGroup
	conns := make([]*raw, followers)
	for i := range conns {
		skip := skipFrame
		if transport == "ws" {
			conns[i] = s.rawSocket("/ws?filter=all")
		} else {
			conns[i], skip = s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n"), skipBlock
			if err := skip(conns[i].r); err != nil { // the header ends as a block does
				s.t.Fatal(err)
			}
		}
		_ = conns[i].conn.SetDeadline(time.Time{})
		for range 2 { // welcome and acknowledgement, or retry and welcome
			if err := skip(conns[i].r); err != nil {
				s.t.Fatal(err)
			}
		}
		readers.Go(func() {
			for {
				if err := skip(conns[i].r); err != nil {
					failed(err)
					return
				}
				if c.delivered.Add(1) == c.wanted.Load() {
					c.all <- struct{}{}
				}
			}
		})
	}
	s.t.Cleanup(func() {
		failed(nil)
		for _, conn := range conns {
			_ = conn.conn.Close()
		}
		readers.Wait()
	})
	return c
}

// publish publishes so many notifications and waits until all have got them.
func (c *crowd) publish(n int) {
	c.server.t.Helper()
	c.wanted.Add(int64(n * c.followers))
	for range n {
		c.server.hub.Publish(c.what)
	}
	select {
	case <-c.all:
	case <-c.ctx.Done():
		c.server.t.Fatal(context.Cause(c.ctx))
	}
}

// skipFrame reads a frame of the server's.
func skipFrame(r *bufio.Reader) error {
	head, err := r.Peek(4)
	if err != nil {
		return err
	}
	length := 2 + int(head[1])
	if head[1] == 126 {
		length = 4 + int(binary.BigEndian.Uint16(head[2:]))
	}
	_, err = r.Discard(length)
	return err
}

// skipBlock reads to the end of a block of lines.
func skipBlock(r *bufio.Reader) error {
	for {
		if line, err := r.ReadSlice('\n'); err != nil || len(line) <= len("\r\n") {
			return err
		}
	}
}

// mallocs is how many allocations there have been.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
