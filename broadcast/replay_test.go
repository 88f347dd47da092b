package broadcast_test

import (
	"fmt"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// From every position, exactly what came after it, then what comes.
func TestHub_Replay_FromEveryCursor(t *testing.T) {
	const total = 300
	h := broadcast.New(broadcast.Options{QueueSize: 4, WindowSize: total})
	cursors := []wire.Cursor{h.Cursor()}
	for id := range int64(total) {
		h.Publish(execution(id))
		cursors = append(cursors, h.Cursor())
	}
	subscribers := make([]*broadcast.Subscriber, len(cursors))
	for i, cursor := range cursors {
		s := connect(t, h)
		resume(t, s, cursor.String(), "all")
		got := drain(t, s)
		diff(t, "first", wire.ServerMessage(wire.Subscribed{Filter: "all", Cursor: cursor}), got[0])
		diff(t, fmt.Sprintf("from position %d", i), upTo(int64(i), total-1), ids(got))
		diff(t, "messages", total-i+1, len(got))
		subscribers[i] = s
	}
	h.Publish(execution(total))
	for i, s := range subscribers {
		diff(t, fmt.Sprintf("live, from position %d", i), []int64{total}, ids(drain(t, s)))
	}
}

// Replay costs no queue: however long it is, nobody is slow for having been away.
func TestHub_Replay_LongerThanQueue(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 1, WindowSize: 10_000})
	start := h.Cursor().String()
	for id := range int64(10_000) {
		h.Publish(execution(id))
	}
	s := connect(t, h)
	resume(t, s, start, "all")
	diff(t, "replayed", upTo(0, 9_999), ids(drain(t, s)))
}

func TestHub_Replay_ByFilter(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 2000})
	start := h.Cursor().String()
	for id := range int64(2000) {
		n := execution(id)
		if id%500 == 0 {
			n.UserID = new(int64(7))
		}
		h.Publish(n)
	}
	for text, want := range map[string][]int64{
		"user:7":                {0, 500, 1000, 1500},
		"entity:execution:1999": {1999},
		"entity_type:inquiry":   nil,
	} {
		s := connect(t, h)
		resume(t, s, start, text)
		diff(t, text, want, ids(drain(t, s)))
	}
	s := connect(t, h)
	resume(t, s, start, "user:7", "entity:execution:3", "entity:execution:500")
	diff(t, "several", []int64{0, 3, 500, 1000, 1500}, ids(drain(t, s)))
}

// What cannot be proved is said, with the reason, before anything else; then it goes
// on from now.
func TestHub_Replay_Refused(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 4})
	h.Publish(execution(0))
	for id := range int64(9) {
		h.Publish(execution(id))
	}
	now := h.Cursor()
	at := func(offset uint64) string { return wire.Cursor{Epoch: now.Epoch, Offset: offset}.String() }
	other := broadcast.New(broadcast.Options{})
	var subscribers []*broadcast.Subscriber
	for cursor, reason := range map[string]wire.GapReason{
		"":                               wire.GapCursorInvalid,
		"nonsense":                       wire.GapCursorInvalid,
		now.String() + "\n":              wire.GapCursorInvalid,
		now.Epoch + ".010":               wire.GapCursorInvalid,
		now.Epoch + ".-1":                wire.GapCursorInvalid,
		other.Cursor().String():          wire.GapCursorUnknown,
		"x" + now.String():               wire.GapCursorUnknown,
		at(now.Offset + 1):               wire.GapCursorUnknown,
		at(1<<64 - 1):                    wire.GapCursorUnknown,
		at(0):                            wire.GapCursorExpired,
		at(now.Offset - 5):               wire.GapCursorExpired,
		at(now.Offset-4) + ".1":          wire.GapCursorInvalid,
		"k3f9.1042":                      wire.GapCursorUnknown,
		at(now.Offset-4) + "000":         wire.GapCursorUnknown,
		wire.Cursor{Epoch: "a"}.String(): wire.GapCursorUnknown,
	} {
		s := connect(t, h)
		before := h.Stats().Gaps[reason]
		resume(t, s, cursor, "all", "user:1")
		diff(t, fmt.Sprintf("from %q", cursor), []wire.ServerMessage{
			wire.Subscribed{Filter: "all", Cursor: now},
			wire.Subscribed{Filter: "user:1", Cursor: now},
			wire.Gap{Reason: reason, Cursor: now},
		}, drain(t, s))
		diff(t, "gaps counted", before+1, h.Stats().Gaps[reason])
		subscribers = append(subscribers, s)
	}
	h.Publish(execution(100))
	for _, s := range subscribers {
		diff(t, "live", []int64{100}, ids(drain(t, s)))
	}
}

// The oldest position that is honoured is the one before the oldest retained.
func TestHub_Replay_WindowEdge(t *testing.T) {
	for _, size := range []int{0, 1, 4, 10, 11, 100} {
		h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: size})
		cursors := []wire.Cursor{h.Cursor()}
		for id := range int64(10) {
			h.Publish(execution(id))
			cursors = append(cursors, h.Cursor())
		}
		diff(t, "retained", min(size, 10), h.Stats().Retained)
		for i, cursor := range cursors {
			s := connect(t, h)
			resume(t, s, cursor.String(), "all")
			got := drain(t, s)
			if 10-i <= size {
				diff(t, fmt.Sprintf("window %d, from position %d", size, i), upTo(int64(i), 9), ids(got))
				diff(t, "messages", 11-i, len(got))
				continue
			}
			diff(t, fmt.Sprintf("window %d, from position %d", size, i), []wire.ServerMessage{
				wire.Subscribed{Filter: "all", Cursor: h.Cursor()}, wire.Gap{Reason: wire.GapCursorExpired, Cursor: h.Cursor()},
			}, got)
		}
	}
}

// The cursor of a subscription, of a notification and of a gap all resume.
func TestHub_Replay_FromWhatWasSent(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
	s := connect(t, h)
	h.Publish(execution(0))
	subscribe(t, s, "all")
	h.Publish(execution(1))
	h.Publish(execution(2))
	ack, one := drain(t, s)[0].(wire.Subscribed), wire.Cursor{Epoch: h.Cursor().Epoch, Offset: h.Cursor().Offset - 1}
	for cursor, want := range map[wire.Cursor][]int64{ack.Cursor: {1, 2}, one: {2}, h.Cursor(): nil} {
		again := connect(t, h)
		resume(t, again, cursor.String(), "all")
		got := drain(t, again)
		diff(t, "from "+cursor.String(), want, ids(got))
		diff(t, "messages", len(want)+1, len(got))
	}
}

// inReplay returns a hub with 1000 executions, numbered from 0, and a subscriber that
// has read some of them.
func inReplay(t *testing.T, queue int, texts ...string) (h *broadcast.Hub, s *broadcast.Subscriber, read int64) {
	t.Helper()
	h = broadcast.New(broadcast.Options{QueueSize: queue, WindowSize: 1000})
	start := h.Cursor().String()
	for id := range int64(1000) {
		h.Publish(execution(id))
	}
	s = connect(t, h)
	resume(t, s, start, texts...)
	got := ids(next(t, s))
	if len(got) == 0 {
		got = ids(next(t, s))
	}
	read = int64(len(got))
	if read == 0 || read > 900 {
		t.Fatalf("%d notifications at once: this is not the middle of a replay", read)
	}
	diff(t, "the first part", upTo(0, read-1), got)
	return h, s, read
}

func TestSubscriber_InReplay_Publish(t *testing.T) {
	h, s, read := inReplay(t, 2, "all")
	// What comes meanwhile fits the window, not the queue, and pushes out what was read.
	for id := range int64(10) {
		h.Publish(execution(1000 + id))
	}
	diff(t, "the rest", upTo(read, 1009), ids(drain(t, s)))
	h.Publish(execution(1010))
	diff(t, "live", []int64{1010}, ids(drain(t, s)))
}

func TestSubscriber_InReplay_Gap(t *testing.T) {
	h, s, _ := inReplay(t, 10, "all")
	h.Gap(wire.GapListenerReconnected)
	gap := wire.Gap{Reason: wire.GapListenerReconnected, Cursor: h.Cursor()}
	diff(t, "the rest", []wire.ServerMessage{gap}, drain(t, s))
	n := execution(1000)
	h.Publish(n)
	n.Cursor = h.Cursor()
	diff(t, "live", []wire.ServerMessage{n}, drain(t, s))
	diff(t, "gaps", map[wire.GapReason]uint64{wire.GapListenerReconnected: 1}, h.Stats().Gaps)
}

// Several gaps and notifications later there is still a gap, and after it no doubt.
func TestSubscriber_InReplay_Gaps(t *testing.T) {
	h, s, _ := inReplay(t, 10, "all")
	h.Gap(wire.GapListenerReconnected)
	h.Publish(execution(1000))
	h.Gap(wire.GapSourceOverflow)
	after := h.Cursor()
	h.Publish(execution(1001))
	got := drain(t, s)
	gap, ok := got[0].(wire.Gap)
	if !ok || gap.Reason != wire.GapSourceOverflow || gap.Cursor.Offset < after.Offset {
		t.Fatalf("got %v first, want a gap not before %s", got[0], after)
	}
	for _, m := range got[1:] { // what the gap does not cover is there
		if n, ok := m.(wire.Notification); !ok || n.Cursor.Offset <= gap.Cursor.Offset {
			t.Errorf("got %v after the gap at %s", m, gap.Cursor)
		}
	}
	if gap.Cursor == after {
		diff(t, "after the gap", []int64{1001}, ids(got))
	}
}

func TestSubscriber_InReplay_Expires(t *testing.T) {
	h, s, read := inReplay(t, 10, "all")
	for id := range read + 1 { // one more than it has read
		h.Publish(execution(1000 + id))
	}
	got := drain(t, s)
	diff(t, "the rest", []wire.ServerMessage{wire.Gap{Reason: wire.GapCursorExpired, Cursor: h.Cursor()}}, got)
	h.Publish(execution(5000))
	diff(t, "live", []int64{5000}, ids(drain(t, s)))
}

// With one less it has not expired.
func TestSubscriber_InReplay_ExpiresNot(t *testing.T) {
	h, s, read := inReplay(t, 10, "all")
	for id := range read {
		h.Publish(execution(1000 + id))
	}
	diff(t, "the rest", upTo(read, 999+read), ids(drain(t, s)))
}

// A filter added in the middle counts from its acknowledgement on; what the first one
// still brings follows.
func TestSubscriber_InReplay_Subscribe(t *testing.T) {
	h, s, read := inReplay(t, 10, "entity_type:execution")
	inquiry := execution(1)
	inquiry.EntityType = "inquiry"
	h.Publish(inquiry) // before the filter: not for it
	subscribe(t, s, "entity_type:inquiry")
	ack := wire.Subscribed{Filter: "entity_type:inquiry", Cursor: h.Cursor()}
	h.Publish(inquiry)
	h.Publish(execution(1000))
	got := drain(t, s)
	diff(t, "first", wire.ServerMessage(ack), got[0])
	diff(t, "the rest", append(upTo(read, 999), 1, 1000), ids(got))
	h.Publish(inquiry)
	h.Publish(execution(1001))
	diff(t, "live", []int64{1, 1001}, ids(drain(t, s)))
}

// The same filter again changes nothing: the replay goes on where it was.
func TestSubscriber_InReplay_SubscribeAgain(t *testing.T) {
	h, s, read := inReplay(t, 10, "all")
	subscribe(t, s, "all")
	h.Publish(execution(1000))
	diff(t, "the rest", upTo(read, 1000), ids(drain(t, s)))
}

func TestSubscriber_InReplay_Unsubscribe(t *testing.T) {
	h, s, read := inReplay(t, 10, "all", "entity:execution:999", "entity:execution:1000")
	ack := wire.Unsubscribed{Filter: "all"}
	s.Unsubscribe(filters(t, "all")[0], ack)
	h.Publish(execution(1000))
	h.Publish(execution(1001))
	got := drain(t, s)
	diff(t, "first", wire.ServerMessage(ack), got[0])
	diff(t, "the rest", []int64{999, 1000}, ids(got))
	h.Publish(execution(1000))
	h.Publish(execution(read))
	diff(t, "live", []int64{1000}, ids(drain(t, s)))
	s.Close()
	diff(t, "filters left", 0, h.Stats().Filters)
}

// Subscribed anew, a filter starts anew.
func TestSubscriber_InReplay_Resubscribe(t *testing.T) {
	h, s, _ := inReplay(t, 10, "all")
	s.Unsubscribe(filters(t, "all")[0], wire.Unsubscribed{Filter: "all"})
	h.Publish(execution(1000))
	subscribe(t, s, "all")
	ack := wire.Subscribed{Filter: "all", Cursor: h.Cursor()}
	n := execution(1001)
	h.Publish(n)
	n.Cursor = h.Cursor()
	diff(t, "the rest", []wire.ServerMessage{wire.Unsubscribed{Filter: "all"}, ack, n}, drain(t, s))
}

// Whoever has no filter left has no replay left, and a gap does not concern him.
func TestSubscriber_InReplay_UnsubscribeAll(t *testing.T) {
	h, s, _ := inReplay(t, 10, "all")
	s.Unsubscribe(filters(t, "all")[0], wire.Unsubscribed{Filter: "all"})
	h.Gap(wire.GapListenerReconnected)
	h.Publish(execution(1000))
	diff(t, "the rest", []wire.ServerMessage{wire.Unsubscribed{Filter: "all"}}, drain(t, s))
	subscribe(t, s, "all")
	h.Publish(execution(1001))
	diff(t, "live", []int64{1001}, ids(drain(t, s)))
}

// What is not a notification does not wait for the replay.
func TestSubscriber_InReplay_OtherMessages(t *testing.T) {
	h, s, read := inReplay(t, 10, "all")
	s.Send(wire.Pong{})
	h.SetMode(wire.ModeLive)
	got := drain(t, s)
	diff(t, "first", []wire.ServerMessage{wire.Pong{}, wire.SourceStatus{Mode: wire.ModeLive}}, got[:2])
	diff(t, "the rest", upTo(read, 999), ids(got))
	diff(t, "messages", int(1000-read)+2, len(got))
}
