package http_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attune/broadcast"
	"attune/wire"
)

// after publishes as many notifications and returns how long it takes, in a bubble, until
// the client has them.
func (c *raw) after(s *server, n int) time.Duration {
	c.t.Helper()
	begun := time.Now()
	for id := range n {
		s.publish(int64(id))
	}
	for id := range n {
		equal(c.t, "id", c.text()["entity_id"], any(float64(id)))
	}
	took := time.Since(begun)
	synctest.Wait() // the turn is over
	return took
}

// followsAll is a patient client that follows everything.
func (s *server) followsAll() *raw {
	s.t.Helper()
	c := s.patient("/ws?filter=all")
	c.text()
	c.text()
	return c
}

// TestTurns_Busy: what comes after a pause is delivered at once, and so are a few that
// follow it closely. From then on what comes within a millisecond goes together, unless
// there is so much of it that the queue fills up.
func TestTurns_Busy(t *testing.T) {
	inBubble(t, func(s *server) {
		t := s.t
		c := s.followsAll()
		pass(time.Second)
		for range 2 {
			for i := range 4 {
				equal(t, fmt.Sprintf("delay of notification %d after a pause", i), c.after(s, 1), time.Duration(0))
			}
			for range 3 {
				equal(t, "delay of one that follows", c.after(s, 1), time.Millisecond)
				equal(t, "delay of three that follow", c.after(s, 3), time.Millisecond)
			}
			equal(t, "delay of half a queue", c.after(s, 4), time.Duration(0))
			pass(10 * time.Millisecond)
		}
	}, small)
}

// TestTurns_Pause: after a pause, delivery begins before a notification is queued for
// everybody.
func TestTurns_Pause(t *testing.T) {
	inBubble(t, func(s *server) {
		t := s.t
		first := s.followsAll()
		for range 20 {
			s.followsAll()
		}
		var has, inTime atomic.Bool
		last, _ := s.hub.Connect(broadcast.Allowed(func(*wire.Notification) bool {
			synctest.Wait() // all has happened that can, while the hub waits
			inTime.Store(has.Load())
			return true
		}))
		defer last.Close()
		all, _ := wire.ParseFilter("all")
		nothing := func(broadcast.Start) []wire.ServerMessage { return nil }
		if err := last.Subscribe(t.Context(), []wire.Filter{all}, nil, nothing); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		published := make(chan struct{})
		go func() {
			defer close(published)
			s.publish(1)
		}()
		equal(t, "id", first.text()["entity_id"], any(float64(1)))
		has.Store(true)
		<-published
		equal(t, "delivered while it is queued for the last", inTime.Load(), true)
	}, small)
}

// TestTurns_SocketFull: what a socket did not take is delivered when it does, once and in
// order.
func TestTurns_SocketFull(t *testing.T) {
	t.Parallel()
	const many, size = 256, 32 << 10 // 8 MB: more than a socket holds
	s := start(t, func(cfg *setup) { cfg.Options = broadcast.Options{QueueSize: 2 * many, WindowSize: 1} })
	s.dial = (&net.Dialer{Control: smallBuffer}).DialContext
	socket := s.rawSocket("/ws?filter=all")
	events := s.eventsUnread()
	socket.text()
	socket.text()
	for id := range int64(many) {
		s.hub.Publish(large(id, size))
	}
	for id := range int64(many) {
		equal(t, "socket", socket.text()["entity_id"], any(float64(id)))
		equal(t, "stream", events.ids(1), []int64{id})
	}
	for _, transport := range []string{"ws", "sse"} {
		equal(t, transport, s.metric(fmt.Sprintf("attune_deliveries_total{transport=%q}", transport)), many)
	}
}

// TestTurns_Crowd: all of a crowd get all notifications, whose delivery begins while they are
// still being queued.
func TestTurns_Crowd(t *testing.T) {
	t.Parallel()
	const followers, rounds = 2100, 10
	c := follow(start(t), "ws", followers)
	for range rounds {
		c.publish(1) // and waits until all have it
		c.publish(4)
	}
}
