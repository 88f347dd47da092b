package broadcast_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// What is not allowed is not delivered, live or replayed, however it matches; and the
// answer may change.
func TestSubscriber_Allowed(t *testing.T) {
	t.Parallel()
	h := broadcast.New(broadcast.Options{QueueSize: 100, WindowSize: 100})
	h.SetMode(wire.ModeLive)
	start := h.Cursor().String()
	publish := func(from int64) {
		for id := from; id < from+4; id++ {
			n := execution(id)
			if id%2 == 0 {
				n.UserID = new(int64(8))
			}
			h.Publish(n)
		}
	}
	publish(1)
	var trusted atomic.Bool
	s, _ := h.Connect(broadcast.Allowed(func(n *wire.Notification) bool { return n.UserID == nil || trusted.Load() }))
	t.Cleanup(s.Close)
	resume(t, s, start, "all", "entity:execution:2", "user:8")
	diff(t, "replayed", []int64{1, 3}, ids(drain(t, s)))
	publish(11)
	diff(t, "live", []int64{11, 13}, ids(drain(t, s)))
	trusted.Store(true)
	publish(21)
	diff(t, "allowed by now", []int64{21, 22, 23, 24}, ids(drain(t, s)))
}

// A subscriber that is ended gives the reason, the first one, and nothing that was
// queued before.
func TestSubscriber_End(t *testing.T) {
	t.Parallel()
	h := broadcast.New(broadcast.Options{QueueSize: 100, WindowSize: 100})
	s := connect(t, h)
	subscribe(t, s, "all")
	h.Publish(execution(1))
	reason := errors.New("withdrawn")
	s.End(reason)
	s.End(errors.New("another"))
	s.Close()
	h.Publish(execution(2))
	got, err := drainError(t, s)
	if !errors.Is(err, reason) {
		t.Errorf("ended with %v, want %v", err, reason)
	}
	diff(t, "delivered", []int64(nil), ids(got))
	diff(t, "subscribers", 0, h.Stats().Subscribers)
}
