package broadcast_test

import (
	"errors"
	"reflect"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// checker follows one connection's messages by the rules of the protocol. It knows
// nothing of the hub but the offsets that were given out.
type checker struct {
	t    *testing.T
	w    *world
	conn *connection
	seen *tally

	active  map[wire.Filter]uint64 // the position that each counts from
	at      position               // everything up to it was delivered or told of
	owesGap bool                   // a gap must come before any notification
	anyGap  bool
}

// check compares what a connection received with what happened, and returns where
// its client stands after it.
func check(t *testing.T, w *world, conn *connection, seen *tally) position {
	t.Helper()
	k := &checker{t: t, w: w, conn: conn, seen: seen, active: make(map[wire.Filter]uint64)}
	for i, m := range conn.received {
		if t.Failed() {
			break
		}
		switch m := m.(type) {
		case wire.Subscribed:
			k.subscribed(i, m)
		case wire.Unsubscribed:
			delete(k.active, mustFilter(m.Filter))
		case wire.Gap:
			k.gap(i, m)
		case wire.Notification:
			k.notification(i, m)
		case wire.Pong, wire.SourceStatus:
		default:
			t.Errorf("message %d is a %T", i, m)
		}
	}
	switch {
	case conn.complete:
		seen.add("complete")
		k.nothingMissing(conn.end + 1)
		if k.owesGap {
			t.Errorf("resumed from %d, started at another position and never told", conn.start.offset)
		}
	case errors.Is(conn.err, broadcast.ErrSlowConsumer):
		seen.add("slow")
	case errors.Is(conn.err, broadcast.ErrClosed):
		seen.add("closed")
	}
	if t.Failed() {
		t.Logf("resumed from %+v, bad start %q, ended by %v, at %+v", conn.start, conn.badStart, conn.err, k.at)
	}
	conn.sub.Close()
	if !k.at.known {
		return conn.start
	}
	return k.at
}

func (k *checker) subscribed(i int, m wire.Subscribed) {
	if !k.at.known {
		k.at = position{m.Cursor.Offset, true}
		if start := k.conn.start; start.known {
			if m.Cursor.Offset == start.offset {
				k.seen.add("resumed")
			} else {
				k.at, k.owesGap = start, true
			}
		}
		k.owesGap = k.owesGap || k.conn.badStart != ""
	}
	if k.conn.start.known && m.Cursor.Offset < k.conn.start.offset {
		k.t.Errorf("message %d: %s from %s, but it was resumed from %d", i, m.Filter, m.Cursor, k.conn.start.offset)
	}
	if f := mustFilter(m.Filter); !has(k.active, f) {
		k.active[f] = m.Cursor.Offset
	}
}

func (k *checker) gap(i int, m wire.Gap) {
	k.seen.add("gap " + string(m.Reason))
	switch {
	case !k.at.known:
		k.t.Errorf("message %d: a gap before the first acknowledgement", i)
	case m.Cursor.Offset < k.at.offset:
		k.t.Errorf("message %d: gap at %s after position %d", i, m.Cursor, k.at.offset)
	case !k.justified(m):
		k.t.Errorf("message %d: gap %s at %s, position %d: nothing was lost", i, m.Reason, m.Cursor, k.at.offset)
	}
	k.at.offset, k.owesGap, k.anyGap = m.Cursor.Offset, false, true
}

// justified reports whether there was a reason to tell of a gap. To tell of too many
// would keep every promise and be of no use.
func (k *checker) justified(m wire.Gap) bool {
	if k.conn.badStart != "" && !k.anyGap {
		return m.Reason == k.conn.badStart
	}
	notifications := 0
	for offset := k.at.offset + 1; offset <= m.Cursor.Offset; offset++ {
		o, _ := k.w.at(offset)
		if o.gap == m.Reason {
			return true
		}
		if o.gap == "" {
			notifications++
		}
	}
	return m.Reason == wire.GapCursorExpired && notifications > k.w.window
}

func (k *checker) notification(i int, m wire.Notification) {
	k.seen.add("notification")
	offset := m.Cursor.Offset
	o, ok := k.w.at(offset)
	switch {
	case !ok:
		k.t.Errorf("message %d: %s was never published", i, m.Cursor)
	case !reflect.DeepEqual(o.notification, m):
		k.t.Errorf("message %d: got %v, published %v", i, m, o.notification)
	case k.owesGap:
		k.t.Errorf("message %d: %s before the gap that is owed", i, m.Cursor)
	case offset <= k.at.offset:
		k.t.Errorf("message %d: %s is delivered twice or too late: position %d", i, m.Cursor, k.at.offset)
	case !k.wanted(offset, o):
		k.t.Errorf("message %d: %s %s %s matches none of %v", i, m.Cursor, m.EntityType, m.EntityID, k.active)
	}
	k.nothingMissing(offset)
	k.at.offset = offset
}

// nothingMissing checks that nothing should have come between the position and offset.
func (k *checker) nothingMissing(offset uint64) {
	if k.owesGap || !k.at.known {
		return
	}
	for missed := k.at.offset + 1; missed < offset; missed++ {
		if o, ok := k.w.at(missed); ok && k.wanted(missed, o) {
			k.t.Errorf("%d %q is missing before %d; filters %v", missed, o.gap, offset, k.active)
		}
	}
}

// wanted reports whether what happened at offset concerns the subscriber.
func (k *checker) wanted(offset uint64, o occurrence) bool {
	for f, from := range k.active {
		if from < offset && (o.gap != "" || f.Matches(&o.notification)) {
			return true
		}
	}
	return false
}

func mustFilter(text string) wire.Filter {
	f, err := wire.ParseFilter(text)
	if err != nil {
		panic(err)
	}
	return f
}

func has(m map[wire.Filter]uint64, f wire.Filter) bool {
	_, ok := m[f]
	return ok
}
