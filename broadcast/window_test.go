package broadcast_test

import (
	"strings"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// What is retained for replay is bounded in bytes, too.
func TestHub_WindowBytes(t *testing.T) {
	t.Parallel()
	const size = 1000
	h := broadcast.New(broadcast.Options{QueueSize: 1000, WindowSize: 100, WindowBytes: 10 * size})
	publish := func(bytes int) wire.Cursor {
		h.Publish(wire.Notification{
			NotificationType: "c", EntityType: "t", EntityID: wire.IntID(1),
			Payload: []byte(`"` + strings.Repeat("x", bytes) + `"`),
		})
		return h.Cursor()
	}
	var cursors []wire.Cursor
	for range 250 { // so that the ring wraps around while it is small
		cursors = append(cursors, publish(size/2))
	}
	retained := h.Stats().Retained
	if retained < 10 || retained > 20 {
		t.Fatalf("%d of %d bytes are retained, want some 10 kB", retained, size/2)
	}
	for i, c := range cursors {
		sub, _ := h.Connect()
		text := c.String()
		if err := sub.Subscribe(t.Context(), []wire.Filter{mustFilter("all")}, &text, func(broadcast.Start) []wire.ServerMessage { return nil }); err != nil {
			t.Fatal(err)
		}
		frames, err := sub.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		sub.Close()
		missing := len(cursors) - 1 - i
		if missing > retained {
			if gap, ok := frames[0].Message.(wire.Gap); len(frames) != 1 || !ok || gap.Reason != wire.GapCursorExpired {
				t.Errorf("%d back: %d frames, want a gap", missing, len(frames))
			}
			continue
		}
		if len(frames) != missing {
			t.Errorf("%d back: %d frames", missing, len(frames))
		}
	}

	publish(20 * size)
	if n := h.Stats().Retained; n != 0 {
		t.Errorf("%d are retained after one that is too large", n)
	}
	publish(size)
	if n := h.Stats().Retained; n != 1 {
		t.Errorf("%d are retained, want the last", n)
	}
}
