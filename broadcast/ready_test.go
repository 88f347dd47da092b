package broadcast_test

import (
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// TestOnReady: what is more than a notification is not to be put off, nor is half a
// queue; and when all have been told, whoever waits for that is, with no lock held.
func TestOnReady(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 8})
	var told []bool
	settled := 0
	h.OnSettled(func() {
		settled++
		_ = h.Cursor()
	})
	s, _ := h.Connect(broadcast.OnReady(func(now bool) { told = append(told, now) }))
	calls := func(what string, do func(), want ...bool) {
		t.Helper()
		told, settled = nil, 0
		do()
		diff(t, what, want, told)
		if settled != min(1, len(want)) {
			t.Errorf("%s: settled %d times", what, settled)
		}
	}
	calls("subscribe", func() { subscribe(t, s, "entity:execution:1") }, true, true)
	drainQueued(t, s)
	for range 3 {
		calls("publish", func() { h.Publish(execution(1)) }, false)
	}
	calls("publish to half a queue", func() { h.Publish(execution(1)) }, true)
	drainQueued(t, s)
	calls("publish to somebody else", func() { h.Publish(execution(2)) })
	calls("unlogged", func() { h.PublishUnlogged(execution(1)) }, false)
	calls("send", func() { s.Send(wire.Pong{}) }, true)
	drainQueued(t, s)
	calls("mode", func() { h.SetMode(wire.ModeLive) }, true)
	calls("gap", func() { h.Gap(wire.GapListenerReconnected) }, true)
	calls("unsubscribe", func() { s.Unsubscribe(filters(t, "entity:execution:1")[0], wire.Pong{}) }, true)
	calls("close", s.Close, true)
}

// TestHub_Publish_SmallQueue: what is published at once may be more than a queue takes.
func TestHub_Publish_SmallQueue(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 4, WindowSize: 8})
	s, _ := h.Connect(broadcast.OnReady(func(bool) {}))
	var got []*wire.Frame
	h.OnSettled(func() { got, _, _ = s.TakeQueued(got, 1<<20) })
	subscribe(t, s, "all")
	got = nil
	ns := make([]wire.Notification, 20)
	for i := range ns {
		ns[i] = execution(int64(i))
	}
	h.Publish(ns[:10]...)
	h.PublishUnlogged(ns[10:]...)
	logged := make([]wire.Notification, 20)
	for i := range logged {
		logged[i] = execution(int64(20 + i))
		logged[i].Cursor.Offset = uint64(11 + i)
	}
	h.PublishLogged(logged...)
	diff(t, "ids", upTo(0, 39), ids(messages(got)))
	if _, _, ok := s.TakeQueued(nil, 1); !ok {
		t.Error("the subscriber has ended")
	}
}

// TestSubscriber_TakeQueued: no more than was asked for, and nothing that needs the
// window or tells an end.
func TestSubscriber_TakeQueued(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 8})
	cursor := h.Cursor().String()
	s := connect(t, h)
	subscribe(t, s, "all")
	drainQueued(t, s)
	for id := range int64(5) {
		h.Publish(execution(id))
	}
	size := h.Stats().QueuedBytes / 5
	for _, take := range []struct {
		most int
		want []int64
		more bool
	}{
		{1, []int64{0}, true},
		{size + 1, []int64{1, 2}, true},
		{100 * size, []int64{3, 4}, false},
		{1, nil, false},
	} {
		frames, more, ok := s.TakeQueued(nil, take.most)
		diff(t, "ids", take.want, ids(messages(frames)))
		if more != take.more || !ok {
			t.Errorf("at most %d bytes: more %t, ok %t", take.most, more, ok)
		}
	}
	if stats := h.Stats(); stats.Queued != 0 || stats.QueuedBytes != 0 {
		t.Errorf("queued: %d, %d bytes", stats.Queued, stats.QueuedBytes)
	}

	s.Close()
	behind := connect(t, h)
	resume(t, behind, cursor, "all")
	for what, s := range map[string]*broadcast.Subscriber{"ended": s, "behind": behind} {
		if frames, more, ok := s.TakeQueued(nil, size); len(frames) > 0 || more || ok {
			t.Errorf("%s: took %d, more %t, ok %t", what, len(frames), more, ok)
		}
	}
}

// drainQueued takes all that is queued.
func drainQueued(tb testing.TB, s *broadcast.Subscriber) {
	tb.Helper()
	if _, more, ok := s.TakeQueued(nil, 1<<20); more || !ok {
		tb.Fatalf("more %t, ok %t", more, ok)
	}
}
