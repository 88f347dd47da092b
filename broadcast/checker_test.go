package broadcast_test

import (
	"errors"
	"reflect"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// checker follows one connection's messages by the rules of the protocol. It knows
// nothing of the hub but the cursors that were given out.
type checker struct {
	t    *testing.T
	w    *world
	conn *connection
	seen *tally

	active   map[wire.Filter]uint64 // the place that each counts from
	at       position               // everything up to it was delivered or told of
	unlogged int                    // the number of the last one that was delivered
	owesGap  bool                   // a gap must come before any notification
	anyGap   bool
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
			t.Errorf("resumed from %d, started at another position and never told", conn.start.place)
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

// place returns the place of what has that cursor.
func (k *checker) place(i int, c wire.Cursor) uint64 {
	place, ok := k.w.placeOf(c)
	if !ok {
		k.t.Errorf("message %d: %s was never given out", i, c)
	}
	return place
}

func (k *checker) subscribed(i int, m wire.Subscribed) {
	place := k.place(i, m.Cursor)
	if !k.at.known {
		k.at = position{place, true}
		if start := k.conn.start; start.known {
			if place == start.place {
				k.seen.add("resumed")
			} else {
				k.at, k.owesGap = start, true
			}
		}
		k.owesGap = k.owesGap || k.conn.badStart != ""
	}
	if k.conn.start.known && place < k.conn.start.place {
		k.t.Errorf("message %d: %s from %s, but it was resumed from %d", i, m.Filter, m.Cursor, k.conn.start.place)
	}
	if f := mustFilter(m.Filter); !has(k.active, f) {
		k.active[f] = place
	}
}

func (k *checker) gap(i int, m wire.Gap) {
	k.seen.add("gap " + string(m.Reason))
	place := k.place(i, m.Cursor)
	switch {
	case !k.at.known:
		k.t.Errorf("message %d: a gap before the first acknowledgement", i)
	case place < k.at.place:
		k.t.Errorf("message %d: gap at %s after place %d", i, m.Cursor, k.at.place)
	case !k.justified(m, place):
		k.t.Errorf("message %d: gap %s at %s, place %d: nothing was lost", i, m.Reason, m.Cursor, k.at.place)
	}
	k.at.place, k.owesGap, k.anyGap = place, false, true
}

// justified reports whether there was a reason to tell of a gap. To tell of too many
// would keep every promise and be of no use.
func (k *checker) justified(m wire.Gap, at uint64) bool {
	if k.conn.badStart != "" && !k.anyGap {
		return m.Reason == k.conn.badStart
	}
	notifications := 0
	for place := k.at.place + 1; place <= at; place++ {
		o, _ := k.w.at(place)
		switch {
		case o.restart && k.owesGap && m.Reason == wire.GapCursorUnknown:
			k.seen.add("from before a restart")
			return true
		case o.gap == m.Reason:
			return true
		case o.gap == "":
			notifications++
		}
	}
	return m.Reason == wire.GapCursorExpired && notifications > k.w.window
}

func (k *checker) notification(i int, m wire.Notification) {
	if o, ok := k.w.outsideLog(&m); ok {
		k.outsideLog(i, m, o)
		return
	}
	k.seen.add("notification")
	place := k.place(i, m.Cursor)
	o, _ := k.w.at(place)
	switch {
	case !reflect.DeepEqual(o.notification, m):
		k.t.Errorf("message %d: got %v, published %v", i, m, o.notification)
	case k.owesGap:
		k.t.Errorf("message %d: %s before the gap that is owed", i, m.Cursor)
	case place <= k.at.place:
		k.t.Errorf("message %d: %s is delivered twice or too late: place %d", i, m.Cursor, k.at.place)
	case !k.wanted(place, o):
		k.t.Errorf("message %d: %s %s %s matches none of %v", i, m.Cursor, m.EntityType, m.EntityID, k.active)
	}
	k.nothingMissing(place)
	k.at.place = place
}

// outsideLog checks an unlogged notification: it comes once and in order, wherever its
// cursor is, from which nothing is missed.
func (k *checker) outsideLog(i int, m wire.Notification, o occurrence) {
	k.seen.add("unlogged")
	place, number := k.place(i, m.Cursor), o.number
	m.Cursor = wire.Cursor{}
	switch {
	case !reflect.DeepEqual(o.notification, m):
		k.t.Errorf("message %d: got %v, published %v", i, m, o.notification)
	case k.owesGap:
		k.t.Errorf("message %d: unlogged before the gap that is owed", i)
	case number <= k.unlogged:
		k.t.Errorf("message %d: unlogged %d after %d", i, number, k.unlogged)
	case place < k.at.place || place > o.place:
		k.t.Errorf("message %d: unlogged at %d has the place %d, after %d", i, o.place, place, k.at.place)
	case !k.matches(&m):
		k.t.Errorf("message %d: unlogged %s %s matches none of %v", i, m.EntityType, m.EntityID, k.active)
	}
	k.nothingMissing(place + 1)
	k.at.place, k.unlogged = place, number
}

// nothingMissing checks that nothing should have come between the position and place.
func (k *checker) nothingMissing(place uint64) {
	if k.owesGap || !k.at.known {
		return
	}
	for missed := k.at.place + 1; missed < place; missed++ {
		if o, ok := k.w.at(missed); ok && k.wanted(missed, o) {
			k.t.Errorf("%d %s %q is missing before %d; filters %v", missed, o.cursor, o.gap, place, k.active)
		}
	}
}

// wanted reports whether what happened at place concerns the subscriber.
func (k *checker) wanted(place uint64, o occurrence) bool {
	for f, from := range k.active {
		if from < place && (o.gap != "" || f.Matches(&o.notification)) {
			return true
		}
	}
	return false
}

func (k *checker) matches(n *wire.Notification) bool {
	for f := range k.active {
		if f.Matches(n) {
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
