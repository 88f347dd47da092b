package broadcast_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attune/broadcast"
	"attune/wire"
)

// execution returns a notification about the execution with that id.
func execution(id int64) wire.Notification {
	return wire.Notification{
		NotificationType: "execution_status_changed", EntityType: "execution", EntityID: wire.IntID(id),
		Payload: json.RawMessage(`{}`),
	}
}

func filters(tb testing.TB, texts ...string) []wire.Filter {
	tb.Helper()
	list := make([]wire.Filter, len(texts))
	for i, s := range texts {
		f, err := wire.ParseFilter(s)
		if err != nil {
			tb.Fatal(err)
		}
		list[i] = f
	}
	return list
}

// connect returns a subscriber that is closed when the test ends.
func connect(tb testing.TB, h *broadcast.Hub) *broadcast.Subscriber {
	tb.Helper()
	s, _ := h.Connect()
	tb.Cleanup(s.Close)
	return s
}

// acknowledge acknowledges each filter, as a WebSocket does.
func acknowledge(list []wire.Filter) func(broadcast.Start) []wire.ServerMessage {
	return func(start broadcast.Start) []wire.ServerMessage {
		var acks []wire.ServerMessage
		for _, f := range list {
			acks = append(acks, wire.Subscribed{Filter: f.String(), Cursor: start.Cursor})
		}
		return acks
	}
}

// subscribe adds filters from now on.
func subscribe(tb testing.TB, s *broadcast.Subscriber, texts ...string) {
	tb.Helper()
	list := filters(tb, texts...)
	if err := s.Subscribe(tb.Context(), list, nil, acknowledge(list)); err != nil {
		tb.Fatalf("subscribe to %q: %v", texts, err)
	}
}

// resume adds filters from a cursor on.
func resume(tb testing.TB, s *broadcast.Subscriber, cursor string, texts ...string) {
	tb.Helper()
	list := filters(tb, texts...)
	if err := s.Subscribe(tb.Context(), list, &cursor, acknowledge(list)); err != nil {
		tb.Fatalf("subscribe to %q from %q: %v", texts, cursor, err)
	}
}

// drain returns everything that waits for the subscriber now.
func drain(tb testing.TB, s *broadcast.Subscriber) []wire.ServerMessage {
	tb.Helper()
	messages, err := drainError(tb, s)
	if err != nil {
		tb.Fatalf("take: %v", err)
	}
	return messages
}

// drainError returns what waits for the subscriber now, and why it has ended, if it has.
func drainError(tb testing.TB, s *broadcast.Subscriber) ([]wire.ServerMessage, error) {
	tb.Helper()
	var frames []*wire.Frame
	for {
		var err error
		if frames, err = s.Take(tb.Context(), frames); err != nil {
			return messages(frames), err
		}
		select {
		case <-s.Ready():
		default:
			return messages(frames), nil
		}
	}
}

func messages(frames []*wire.Frame) []wire.ServerMessage {
	list := make([]wire.ServerMessage, len(frames))
	for i, f := range frames {
		list[i] = f.Message
	}
	return list
}

// next returns what one call of Next brings, waiting for it as long as the test may run.
func next(tb testing.TB, s *broadcast.Subscriber) []wire.ServerMessage {
	tb.Helper()
	frames, err := s.Next(tb.Context(), nil)
	if err != nil {
		tb.Fatalf("next: %v", err)
	}
	return messages(frames)
}

// ids returns the entity ids of the notifications among messages.
func ids(from []wire.ServerMessage) []int64 {
	var list []int64
	for _, m := range from {
		if n, ok := m.(wire.Notification); ok {
			id, _ := n.EntityID.Int64()
			list = append(list, id)
		}
	}
	return list
}

func diff(tb testing.TB, what string, want, got any) {
	tb.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(wire.EntityID{}), cmpopts.EquateEmpty()); d != "" {
		tb.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func upTo(from, to int64) (list []int64) {
	for id := from; id <= to; id++ {
		list = append(list, id)
	}
	return list
}
