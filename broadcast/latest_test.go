package broadcast_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// Whoever asked for the latest loses detail and not the connection: of each entity the
// last notification stays, in order, with the number of those that it stands for; what
// ended an execution and what is no notification stay too.
func TestHub_Latest(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 6, WindowSize: 10})
	s, _ := h.Connect(broadcast.Latest())
	t.Cleanup(s.Close)
	other := connect(t, h)
	subscribe(t, s, "all")
	subscribe(t, other, "all")
	drain(t, s)
	drain(t, other)
	status := func(id int64, text string) wire.Notification {
		n := execution(id)
		n.Payload = json.RawMessage(`{"status":"` + text + `"}`)
		h.Publish(n)
		n.Cursor = h.Cursor()
		return n
	}
	status(1, "scheduled")
	status(1, "running")
	ended := status(1, "completed")
	s.Send(wire.Pong{})
	status(2, "running")
	again := status(1, "archived")   // the queue is full now
	status(2, "running")             // and here it is made smaller
	latest := status(2, "canceling") // the queue has room again
	third := status(3, "running")

	got := drain(t, s)
	var terminal, pongs int
	last := make(map[int64]wire.Notification)
	total := 0
	var offset uint64
	for _, m := range got {
		switch m := m.(type) {
		case wire.Pong:
			pongs++
		case wire.Notification:
			id, _ := m.EntityID.Int64()
			last[id] = m
			total += 1 + m.Coalesced
			if m.Cursor.Offset <= offset {
				t.Errorf("%s after offset %d", m.Cursor, offset)
			}
			offset = m.Cursor.Offset
			if m.Cursor == ended.Cursor {
				terminal++
			}
		default:
			t.Errorf("got %T", m)
		}
	}
	diff(t, "pongs, terminal, all that they stand for", []int{1, 1, 8}, []int{pongs, terminal, total})
	for id, want := range map[int64]wire.Notification{1: again, 2: latest, 3: third} {
		diff(t, "the last state", string(want.Payload), string(last[id].Payload))
		diff(t, "its cursor", want.Cursor, last[id].Cursor)
	}
	if _, err := drainError(t, other); !errors.Is(err, broadcast.ErrSlowConsumer) {
		t.Errorf("who did not ask for it: got %v, want %v", err, broadcast.ErrSlowConsumer)
	}
}

// With more entities than the queue holds, also the latest is too much.
func TestHub_Latest_TooManyEntities(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 6, WindowSize: 10})
	s, _ := h.Connect(broadcast.Latest())
	t.Cleanup(s.Close)
	subscribe(t, s, "all")
	drain(t, s)
	for id := range int64(7) {
		h.Publish(execution(id))
	}
	if _, err := drainError(t, s); !errors.Is(err, broadcast.ErrSlowConsumer) {
		t.Errorf("got %v, want %v", err, broadcast.ErrSlowConsumer)
	}
}

// To make a queue smaller again and again for the sake of one place in it would cost
// everybody: it must free a quarter, in whichever way the queue was full.
func TestHub_Latest_Quarter(t *testing.T) {
	const queue, size = 40, 1000
	for name, opts := range map[string]broadcast.Options{
		"messages": {QueueSize: queue},
		"bytes":    {QueueSize: 100 * queue, QueueBytes: queue * size},
	} {
		for entities := int64(1); entities < queue; entities++ {
			h := broadcast.New(opts)
			s, _ := h.Connect(broadcast.Latest())
			subscribe(t, s, "all")
			drain(t, s)
			total := 0
			for ; total < 4*queue; total++ {
				n := execution(int64(total) % entities)
				n.Payload = json.RawMessage(`"` + strings.Repeat("x", size-240) + `"`)
				h.Publish(n)
			}
			got, err := drainError(t, s)
			s.Close()
			if slow := errors.Is(err, broadcast.ErrSlowConsumer); slow != (entities > 3*queue/4) {
				t.Errorf("full by %s, with %d entities for %d places: slow %t", name, entities, queue, slow)
			}
			if err != nil {
				continue
			}
			for _, m := range got {
				if n, ok := m.(wire.Notification); ok {
					total -= 1 + n.Coalesced
				}
			}
			if total != 0 {
				t.Errorf("full by %s: %d are not accounted for", name, total)
			}
		}
	}
}

// Who asked for the latest and is behind reads ahead, wherever from: of each entity the
// last is delivered and stands for the others, and what has ended is told.
func TestSubscriber_InReplay_Latest(t *testing.T) {
	const total, entities = 6500, 10
	for name, window := range map[string]int{"window": total, "log": 100, "log alone": 0} {
		t.Run(name, func(t *testing.T) {
			log := new(history)
			h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: window, Backlog: log})
			h.Restart("log", 0, wire.GapCursorUnknown)
			var ended []uint64
			for id := range int64(total) {
				n := execution(id % entities)
				if id%1000 == 500 {
					n.Payload = json.RawMessage(`{"status":"completed"}`)
					ended = append(ended, uint64(id)+1)
				}
				h.PublishLogged(log.append(n))
			}
			s, _ := h.Connect(broadcast.Latest())
			t.Cleanup(s.Close)
			resume(t, s, at(0), "all")
			got := drain(t, s)
			if len(got) > 1+len(ended)+entities {
				t.Errorf("%d messages, want the acknowledgement, %d that have ended, and %d", len(got), len(ended), entities)
			}
			told, last, offset := 0, make(map[string]uint64), uint64(0)
			for _, m := range got[1:] {
				n, _ := m.(wire.Notification)
				if n.Cursor.Offset <= offset {
					t.Errorf("%s after %d", n.Cursor, offset)
				}
				offset = n.Cursor.Offset
				told += 1 + n.Coalesced
				last[n.EntityID.String()] = offset
				if len(ended) > 0 && offset == ended[0] {
					ended = ended[1:]
				}
			}
			diff(t, "told of, not told to have ended", []int{total, 0}, []int{told, len(ended)})
			for id := range entities {
				diff(t, "the last", uint64(total-entities+id+1), last[strconv.Itoa(id)])
			}
			h.PublishLogged(log.append(execution(1)))
			diff(t, "live", []int64{1}, ids(drain(t, s)))
		})
	}
}

// What is little to read loses no detail, and neither does what cannot be made less.
func TestSubscriber_InReplay_LatestInFull(t *testing.T) {
	for name, entity := range map[string]func(id int64) int64{
		"little": func(id int64) int64 { return id / 1800 }, // 200 of the last
		"much":   func(id int64) int64 { return id },
	} {
		h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 2000})
		start := h.Cursor().String()
		var want []int64
		for id := range int64(2000) {
			h.Publish(execution(entity(id)))
			if name == "much" || entity(id) == 1 {
				want = append(want, entity(id))
			}
		}
		s, _ := h.Connect(broadcast.Latest())
		t.Cleanup(s.Close)
		text := "all"
		if name == "little" {
			text = "entity:execution:1"
		}
		resume(t, s, start, text)
		diff(t, name, want, ids(drain(t, s)))
	}
}

// What was acknowledged in mid-replay keeps its place, as far as what it brings.
func TestSubscriber_InReplay_LatestSubscribe(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 20, WindowSize: 2000})
	start := h.Cursor().String()
	for range 1000 {
		h.Publish(execution(1))
	}
	s, _ := h.Connect(broadcast.Latest())
	t.Cleanup(s.Close)
	resume(t, s, start, "entity:execution:1")
	h.Publish(execution(2)) // before the filter: not for it
	subscribe(t, s, "entity:execution:2")
	ack := wire.Subscribed{Filter: "entity:execution:2", Cursor: h.Cursor()}
	for range 500 {
		h.Publish(execution(2))
	}
	got := drain(t, s)
	diff(t, "second", wire.ServerMessage(ack), got[1])
	told := make(map[int64]int)
	for _, m := range got[2:] {
		n, _ := m.(wire.Notification)
		id, _ := n.EntityID.Int64()
		told[id] += 1 + n.Coalesced
	}
	diff(t, "told of", map[int64]int{1: 1000, 2: 500}, told)
}

// A queue is full by its bytes too, but takes one message of whatever size.
func TestHub_QueueBytes(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 100, QueueBytes: 1000, WindowSize: 10})
	s := connect(t, h)
	subscribe(t, s, "all")
	drain(t, s)
	n := execution(1)
	large := n
	large.Payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 2000) + `"}`)
	h.Publish(large)
	diff(t, "one large message", 1, len(drain(t, s)))
	h.Publish(n)
	if stats := h.Stats(); stats.QueuedBytes < 100 || stats.QueuedBytes > 1000 {
		t.Errorf("%d bytes are queued", stats.QueuedBytes)
	}
	h.Publish(large)
	diff(t, "a small and a large one", 2, len(drain(t, s)))
	diff(t, "bytes of an empty queue", 0, h.Stats().QueuedBytes)
	h.Publish(large)
	h.Publish(n)
	if _, err := drainError(t, s); !errors.Is(err, broadcast.ErrSlowConsumer) {
		t.Errorf("got %v, want %v", err, broadcast.ErrSlowConsumer)
	}
	diff(t, "bytes of a closed one", 0, h.Stats().QueuedBytes)
}
