package broadcast_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// history is a log in memory. It hands out few notifications at once, as a log with
// many rows does.
type history struct {
	mu   sync.Mutex
	rows []wire.Notification // by offset, from 1 on
	gone uint64              // rows up to here were deleted
	err  error
}

func (l *history) append(n wire.Notification) wire.Notification {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.Cursor.Offset = uint64(len(l.rows)) + 1
	l.rows = append(l.rows, n)
	return n
}

func (l *history) Read(_ context.Context, after, upTo uint64) ([]wire.Notification, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, 0, l.err
	}
	if after < l.gone {
		return nil, 0, &wire.GapError{Reason: wire.GapCursorExpired}
	}
	if after >= uint64(len(l.rows)) { // a log that was made anew
		return nil, upTo, nil
	}
	through := min(after+7, upTo, uint64(len(l.rows)))
	return append([]wire.Notification(nil), l.rows[after:through]...), through, nil
}

// truncate forgets what came after that offset, whose numbers will be given again. Nobody
// reads before told was called.
func (l *history) truncate(offset uint64, told func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows = l.rows[:offset:offset]
	told()
}

func (l *history) Head(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.rows)), l.err
}

// logged returns a hub that follows a log of the executions 1 to total and retains 10.
func logged(total int64) (*broadcast.Hub, *history) {
	log := new(history)
	h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 10, Backlog: log})
	h.Restart("log", 0, wire.GapCursorUnknown)
	for id := range total {
		h.PublishLogged(log.append(execution(id + 1)))
	}
	return h, log
}

func at(offset uint64) string { return wire.Cursor{Epoch: "log", Offset: offset}.String() }

// From every position of the log, whether the window still holds it or not.
func TestHub_Log_Resume(t *testing.T) {
	h, _ := logged(50)
	for offset := range uint64(51) {
		s := connect(t, h)
		resume(t, s, at(offset), "all")
		got := drain(t, s)
		diff(t, "from "+at(offset), upTo(int64(offset)+1, 50), ids(got))
		diff(t, "messages", 51-int(offset), len(got))
		h.PublishUnlogged(execution(99))
		diff(t, "live", []int64{99}, ids(drain(t, s)))
		s.Close()
	}
}

// What was published before is not published again, and nothing is out of order.
func TestHub_PublishLogged_Again(t *testing.T) {
	h, log := logged(5)
	s := connect(t, h)
	subscribe(t, s, "all")
	drain(t, s)
	six, seven := log.append(execution(6)), log.append(execution(7))
	h.PublishLogged(six)
	h.PublishLogged(log.rows[2], six, seven, six)
	h.PublishLogged(seven)
	diff(t, "received", []int64{6, 7}, ids(drain(t, s)))
	diff(t, "retained", 7, h.Stats().Retained)
}

// An outage's worth at once does not make anybody a slow consumer.
func TestHub_PublishLogged_Many(t *testing.T) {
	h, log := logged(5)
	s := connect(t, h)
	subscribe(t, s, "all")
	drain(t, s)
	var missed []wire.Notification
	for id := range int64(500) {
		missed = append(missed, log.append(execution(6+id)))
	}
	h.PublishLogged(missed...)
	diff(t, "received", upTo(6, 505), ids(drain(t, s)))
	h.PublishLogged(log.append(execution(506)))
	diff(t, "live", []int64{506}, ids(drain(t, s)))
}

// Of many at once, each subscriber gets as much as its queue takes, and reads the rest by
// itself where that is more. Who has room for all has no part in it.
func TestHub_PublishLogged_ManyByQueue(t *testing.T) {
	h, log := logged(5)
	log.err = errors.New("nobody needs to read the log")
	all, some, none := connect(t, h), connect(t, h), connect(t, h)
	subscribe(t, all, "all")
	subscribe(t, some, "entity:execution:100", "entity:execution:300")
	subscribe(t, none, "user:1")
	for _, s := range []*broadcast.Subscriber{all, some, none} {
		drain(t, s)
	}
	var missed []wire.Notification
	for id := range int64(500) {
		missed = append(missed, log.append(execution(6+id)))
	}
	h.PublishLogged(missed...)
	for name, sub := range map[string]struct {
		s    *broadcast.Subscriber
		want []int64
	}{"some": {some, []int64{100, 300}}, "none": {none, nil}} {
		frames, more, ok := sub.s.TakeQueued(nil, 1<<20)
		diff(t, name, sub.want, ids(messages(frames)))
		if more || !ok {
			t.Errorf("%s: more %t, ok %t", name, more, ok)
		}
		select {
		case <-sub.s.Ready():
			if name == "none" {
				t.Error("none: ready")
			}
		default:
		}
	}
	log.err = nil
	diff(t, "all", upTo(6, 505), ids(drain(t, all)))
}

// However small its queue is, nobody is slow for what came at once, but who had a full
// queue before is.
func TestHub_PublishLogged_SmallQueue(t *testing.T) {
	for _, batch := range []int64{1, 2, 3, 7, 8, 9, 30, 64, 65} {
		log := new(history)
		h := broadcast.New(broadcast.Options{QueueSize: 16, WindowSize: 10, Backlog: log})
		h.Restart("log", 0, wire.GapCursorUnknown)
		reads, stalled := connect(t, h), connect(t, h)
		subscribe(t, reads, "all")
		drain(t, reads)
		subscribe(t, stalled, "all")
		var want []int64
		for id := int64(0); id < 200; {
			var ns []wire.Notification
			for range batch {
				ns = append(ns, log.append(execution(id)))
				want = append(want, id)
				id++
			}
			h.PublishLogged(ns...)
			if half := 8; len(want) >= half { // no later than that
				diff(t, fmt.Sprintf("%d at once", batch), want, ids(drain(t, reads)))
				want = nil
			}
		}
		if _, err := drainError(t, stalled); errors.Is(err, broadcast.ErrSlowConsumer) != (batch <= 8) {
			t.Errorf("%d at once, and nothing taken: got %v", batch, err)
		}
	}
}

// A notification that no log holds reaches whoever is live, also while the log is empty.
func TestHub_PublishUnlogged(t *testing.T) {
	for _, total := range []int64{0, 3} {
		h, _ := logged(total)
		s := connect(t, h)
		subscribe(t, s, "all")
		drain(t, s)
		n := execution(99)
		h.PublishUnlogged(n)
		n.Cursor = h.Cursor()
		diff(t, "live", []wire.ServerMessage{n}, drain(t, s))
		late := connect(t, h)
		resume(t, late, at(0), "all")
		diff(t, "replayed", upTo(1, total), ids(drain(t, late)))
	}
}

// It reaches also who is connected and still reads what is older: before the rest, and with
// the position that has been read up to, so that resuming from it misses nothing.
func TestHub_PublishUnlogged_Behind(t *testing.T) {
	h, log := logged(50)
	resumed, full := connect(t, h), connect(t, h)
	resume(t, resumed, at(5), "all")
	diff(t, "the first part", upTo(6, 12), ids(next(t, resumed)))
	subscribe(t, full, "all")
	drain(t, full)
	var missed []wire.Notification
	for id := range int64(100) {
		missed = append(missed, log.append(execution(51+id)))
	}
	h.PublishLogged(missed...)
	drainQueue := ids(next(t, full)) // and the first part of the rest
	read := drainQueue[len(drainQueue)-1]
	for name, sub := range map[string]struct {
		s    *broadcast.Subscriber
		read int64
	}{"resumed": {resumed, 12}, "with a full queue": {full, read}} {
		n := execution(99)
		n.Payload = json.RawMessage(`{"of":"` + name + `"}`)
		h.PublishUnlogged(n)
		n.Cursor = wire.Cursor{Epoch: "log", Offset: uint64(sub.read)}
		var got []wire.ServerMessage
		for _, m := range drain(t, sub.s) {
			if n, ok := m.(wire.Notification); !ok || len(n.Payload) == 2 || strings.Contains(string(n.Payload), name) {
				got = append(got, m) // not the other's
			}
		}
		diff(t, name, wire.ServerMessage(n), got[0])
		diff(t, name, append([]int64{99}, upTo(sub.read+1, 150)...), ids(got))
		again := connect(t, h)
		resume(t, again, n.Cursor.String(), "all")
		diff(t, name+": from its cursor", upTo(sub.read+1, 150), ids(drain(t, again)))
	}
}

// Where a gap is due, it tells of this loss as well.
func TestHub_PublishUnlogged_BeforeGap(t *testing.T) {
	h, _ := logged(50)
	s := connect(t, h)
	resume(t, s, at(5), "all")
	next(t, s)
	h.Restart("other", 3, wire.GapSourceOverflow)
	h.PublishUnlogged(execution(99))
	diff(t, "the rest", []wire.ServerMessage{wire.Gap{Reason: wire.GapSourceOverflow, Cursor: h.Cursor()}}, drain(t, s))
	h.PublishUnlogged(execution(99))
	diff(t, "live", []int64{99}, ids(drain(t, s)))
}

func TestHub_Log_Expired(t *testing.T) {
	h, log := logged(50)
	log.gone = 20
	s := connect(t, h)
	resume(t, s, at(5), "all")
	got := drain(t, s)
	diff(t, "messages", []wire.ServerMessage{
		wire.Subscribed{Filter: "all", Cursor: wire.Cursor{Epoch: "log", Offset: 5}},
		wire.Gap{Reason: wire.GapCursorExpired, Cursor: h.Cursor()},
	}, got)
	edge := connect(t, h)
	resume(t, edge, at(20), "all")
	diff(t, "from the oldest position", upTo(21, 50), ids(drain(t, edge)))
}

// A log that cannot be read ends the stream: the client comes back with its cursor.
func TestHub_Log_Unreadable(t *testing.T) {
	h, log := logged(50)
	log.err = errors.New("connection reset")
	s := connect(t, h)
	resume(t, s, at(5), "all")
	if _, err := drainError(t, s); !errors.Is(err, log.err) {
		t.Errorf("got %v, want %v", err, log.err)
	}
}

// Another instance has read further: its cursor is good here too, and what this one
// publishes up to there has been delivered.
func TestHub_Log_CursorAhead(t *testing.T) {
	h, log := logged(5)
	var ahead []wire.Notification
	for id := range int64(5) {
		ahead = append(ahead, log.append(execution(6+id)))
	}
	s := connect(t, h)
	resume(t, s, at(8), "entity:execution:9")
	diff(t, "acknowledged", []wire.ServerMessage{
		wire.Subscribed{Filter: "entity:execution:9", Cursor: wire.Cursor{Epoch: "log", Offset: 8}},
	}, drain(t, s))
	// A second filter starts where the first does, and says so.
	subscribe(t, s, "all")
	diff(t, "acknowledged", []wire.ServerMessage{
		wire.Subscribed{Filter: "all", Cursor: wire.Cursor{Epoch: "log", Offset: 8}},
	}, drain(t, s))
	h.PublishLogged(ahead...)
	diff(t, "received", []int64{9, 10}, ids(drain(t, s)))

	level := connect(t, h) // nothing is new to it until something happens
	resume(t, level, at(10), "all")
	drain(t, level)
	log.append(execution(11))
	next := connect(t, h)
	resume(t, next, at(11), "all")
	drain(t, next)
	h.PublishLogged(log.rows[10])
	h.PublishUnlogged(execution(99))
	diff(t, "after the head", []int64{99}, ids(drain(t, next)))
	diff(t, "from the head", []int64{11, 99}, ids(drain(t, level)))

	beyond := connect(t, h)
	resume(t, beyond, at(12), "all")
	gap, ok := drain(t, beyond)[1].(wire.Gap)
	if !ok || gap.Reason != wire.GapCursorUnknown {
		t.Errorf("beyond the log's head: got %v, want %s", gap, wire.GapCursorUnknown)
	}
}

// Another sequence begins: everybody is told, live or reading, and the old cursors
// mean nothing.
func TestHub_Restart(t *testing.T) {
	h, _ := logged(50)
	live, reading := connect(t, h), connect(t, h)
	subscribe(t, live, "all")
	drain(t, live)
	resume(t, reading, at(3), "all")
	next(t, reading)
	h.Restart("other", 7, wire.GapSourceOverflow)
	gap := []wire.ServerMessage{wire.Gap{Reason: wire.GapSourceOverflow, Cursor: wire.Cursor{Epoch: "other", Offset: 7}}}
	diff(t, "live", gap, drain(t, live))
	got := drain(t, reading)
	diff(t, "reading", gap, got[len(got)-1:])
	late := connect(t, h)
	resume(t, late, at(50), "all")
	diff(t, "late", wire.ServerMessage(wire.Gap{Reason: wire.GapCursorUnknown, Cursor: h.Cursor()}), drain(t, late)[1])
}

// Where the sequence restarts lower, its numbers come again: a filter that counted from
// beyond them counts from the restart.
func TestHub_Restart_Lower(t *testing.T) {
	h, log := logged(500)
	live, reading := connect(t, h), connect(t, h)
	subscribe(t, live, "all")
	drain(t, live)
	resume(t, reading, at(470), "entity:execution:471")
	next(t, reading)
	subscribe(t, reading, "all")
	log.rows = log.rows[:3]
	h.Restart("other", 3, wire.GapListenerReconnected)
	gap := wire.Gap{Reason: wire.GapListenerReconnected, Cursor: h.Cursor()}
	diff(t, "live", []wire.ServerMessage{gap}, drain(t, live))
	got := drain(t, reading)
	diff(t, "reading", wire.ServerMessage(gap), got[len(got)-1])
	var missed []wire.Notification
	for id := range int64(300) {
		missed = append(missed, log.append(execution(id)))
	}
	h.PublishLogged(missed...)
	diff(t, "live", upTo(0, 299), ids(drain(t, live)))
	diff(t, "who was reading", upTo(0, 299), ids(drain(t, reading)))
}
