package broadcast_test

import (
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// A watch is stale once what it watches may have changed, and not before.
func TestHub_Watch(t *testing.T) {
	one := wire.EntityFilter("execution", "1")
	for name, tc := range map[string]struct {
		happens func(h *broadcast.Hub)
		stale   bool
	}{
		"Nothing":           {func(*broadcast.Hub) {}, false},
		"Published":         {func(h *broadcast.Hub) { h.Publish(execution(1)) }, true},
		"AnotherEntity":     {func(h *broadcast.Hub) { h.Publish(execution(2)) }, false},
		"Unlogged":          {func(h *broadcast.Hub) { h.PublishUnlogged(execution(1)) }, true},
		"Gap":               {func(h *broadcast.Hub) { h.Gap(wire.GapSourceOverflow) }, true},
		"Restart":           {func(h *broadcast.Hub) { h.Restart("other", 0, wire.GapSourceOverflow) }, true},
		"Degraded":          {func(h *broadcast.Hub) { h.SetMode(wire.ModeDegraded) }, true},
		"SameHealthAsSoFar": {func(h *broadcast.Hub) { h.SetMode(wire.ModeLive) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 8})
			h.SetMode(wire.ModeLive)
			h.Publish(execution(1))
			before := h.Cursor()
			w, cursor := h.Watch(one)
			other, _ := h.Watch(one)
			if cursor != before {
				t.Errorf("it begins at %s, want %s", cursor, before)
			}
			tc.happens(h)
			if w.Stale() != tc.stale || other.Stale() != tc.stale {
				t.Errorf("stale: %t and %t, want %t", w.Stale(), other.Stale(), tc.stale)
			}
			w.Close()
			w.Close()
			if !w.Stale() || other.Stale() != tc.stale {
				t.Errorf("closed: stale %t; the other one %t, want %t", w.Stale(), other.Stale(), tc.stale)
			}
			h.Publish(execution(1))
			if !other.Stale() {
				t.Error("the other one has missed a change")
			}
		})
	}
}

// Whoever was told of a change finds the watch stale: there is no moment between.
func TestHub_Watch_BeforeSubscribers(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 8})
	s := connect(t, h)
	subscribe(t, s, "all")
	drain(t, s)
	const rounds = 2000
	watches := make(chan *broadcast.Watch)
	go func() {
		for range rounds {
			w, _ := h.Watch(wire.EntityFilter("execution", "1"))
			watches <- w
			h.Publish(execution(1))
		}
	}()
	frames := make([]*wire.Frame, 0, 8)
	for range rounds {
		w := <-watches
		<-s.Ready()
		var err error
		if frames, err = s.Take(t.Context(), frames[:0]); err != nil {
			t.Fatal(err)
		}
		if len(frames) > 0 && !w.Stale() {
			t.Fatal("told of a change, and the watch is not stale")
		}
		w.Close()
	}
}
