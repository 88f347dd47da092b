package broadcast_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// Many clients do what clients may do, at random and all at once, while others
// publish. Afterwards each one's messages are compared with what was published: all
// that matches from its start on, once and in order, or a gap first. So it is where the
// hub follows a log, whose sequence may begin anew, and lower.
//
// ATTUNE_TEST_SEED repeats a run, as far as the scheduler lets it.
func TestHub_Model(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("ATTUNE_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("ATTUNE_TEST_SEED: %v", err)
		}
	}
	t.Logf("ATTUNE_TEST_SEED=%d", seed)
	var seen tally
	for i, opts := range []broadcast.Options{
		{QueueSize: 5000, WindowSize: 5000},
		{QueueSize: 20, WindowSize: 700},
		{QueueSize: 3, WindowSize: 60},
		{QueueSize: 50, WindowSize: 2},
		{QueueSize: 8, WindowSize: 0},
	} {
		name := fmt.Sprintf("Queue%d_Window%d", opts.QueueSize, opts.WindowSize)
		t.Run(name, func(t *testing.T) { runModel(t, opts, seed+uint64(i), &seen) })
		opts.Backlog = new(history)
		t.Run("Log_"+name, func(t *testing.T) { runModel(t, opts, seed+uint64(i), &seen) })
	}
	t.Logf("seen: %+v", seen.counts)
	for _, what := range []string{
		"notification", "unlogged", "resumed", "slow", "closed", "complete", "gap listener_reconnected", "gap source_overflow",
		"gap cursor_expired", "gap cursor_unknown", "gap cursor_invalid", "from before a restart",
	} {
		if seen.counts[what] == 0 {
			t.Errorf("the runs never came to %q: they prove nothing about it", what)
		}
	}
}

const (
	modelClients     = 6
	modelPublishers  = 2
	modelConnections = 30 // of each client
)

func runModel(t *testing.T, opts broadcast.Options, seed uint64, seen *tally) {
	t.Helper()
	w := newWorld(opts)
	random := func(who uint64) *rand.Rand {
		return rand.New(rand.NewPCG(seed, who))
	}
	var stop, quiet atomic.Bool // publishers are to stop; they have stopped
	var publishers, busy, clients sync.WaitGroup
	for p := range uint64(modelPublishers) {
		publishers.Go(func() {
			for r := random(100 + p); !stop.Load(); {
				w.step(r)
			}
		})
	}
	busy.Add(modelClients)
	for c := range uint64(modelClients) {
		clients.Go(func() {
			r := random(c)
			var from position
			for range modelConnections {
				conn := dial(w, r, from)
				conn.live(t, r)
				from = check(t, w, conn, seen)
			}
			last := dial(w, r, from)
			busy.Done()
			last.follow(t, &quiet)
			last.end = w.now()
			last.complete = last.err == nil
			check(t, w, last, seen)
		})
	}
	busy.Wait()
	stop.Store(true)
	publishers.Wait()
	quiet.Store(true)
	clients.Wait()
	stats := w.hub.Stats()
	diff(t, "left over", []int{0, 0, 0}, []int{stats.Subscribers, stats.Filters, stats.Queued})
}

// world is the hub, and what was done to it.
type world struct {
	hub    *broadcast.Hub
	log    *history // nil: it follows none
	window int

	mu       sync.Mutex
	happened []occurrence           // in this order; the first is the beginning
	places   map[wire.Cursor]uint64 // in happened
	unlogged []occurrence           // by their number, which is their payload
}

// occurrence is a notification that was published, or a gap.
type occurrence struct {
	cursor       wire.Cursor
	notification wire.Notification
	gap          wire.GapReason
	restart      bool   // nobody resumes from before it
	number       int    // of an unlogged notification, from 1 on
	place        uint64 // of an unlogged notification: the latest that had happened
}

func newWorld(opts broadcast.Options) *world {
	w := &world{hub: broadcast.New(opts), window: opts.WindowSize, places: make(map[wire.Cursor]uint64)}
	if opts.Backlog != nil {
		w.log, _ = opts.Backlog.(*history)
		w.window = math.MaxInt // and what it does not hold is in the log
		w.hub.Restart("log", 0, wire.GapCursorUnknown)
	}
	w.add(occurrence{cursor: w.hub.Cursor()})
	return w
}

func (w *world) step(r *rand.Rand) {
	for range r.IntN(20) {
		w.mu.Lock()
		switch choice := r.IntN(100); {
		case choice == 0 && w.log == nil:
			o := occurrence{gap: modelGap(r)}
			w.hub.Gap(o.gap)
			o.cursor = w.hub.Cursor()
			w.add(o)
		case choice == 0:
			w.restart(r)
		case choice == 1:
			w.hub.SetMode(wire.ModeDegraded)
			w.hub.SetMode(wire.ModeLive)
		case choice == 2 && w.log != nil:
			n := modelNotification(r)
			number := len(w.unlogged) + 1
			n.Payload = strconv.AppendInt(nil, int64(number), 10)
			w.unlogged = append(w.unlogged, occurrence{notification: n, number: number, place: uint64(len(w.happened)) - 1})
			w.hub.PublishUnlogged(n)
		case w.log != nil:
			w.publishLogged(r)
		default:
			ns := []wire.Notification{modelNotification(r)}
			w.hub.Publish(ns...)
			w.add(occurrence{cursor: ns[0].Cursor, notification: ns[0]})
		}
		w.mu.Unlock()
	}
	pause(r, 200)
}

// restart has another sequence begin, that of a new log or of a standby that has not got
// the last rows, or only another epoch.
func (w *world) restart(r *rand.Rand) {
	o := occurrence{gap: modelGap(r), restart: true}
	o.cursor = wire.Cursor{Epoch: fmt.Sprintf("log%d", len(w.happened)), Offset: w.hub.Cursor().Offset}
	if r.IntN(3) > 0 {
		o.cursor.Offset = r.Uint64N(o.cursor.Offset + 1)
	}
	w.log.truncate(o.cursor.Offset, func() { w.hub.Restart(o.cursor.Epoch, o.cursor.Offset, o.gap) })
	w.add(o)
}

// publishLogged brings some rows, or as many as a large transaction does.
func (w *world) publishLogged(r *rand.Rand) {
	rows := 1 + r.IntN(3)
	if r.IntN(20) == 0 {
		rows = 10 + r.IntN(290)
	}
	ns := make([]wire.Notification, rows)
	for i := range ns {
		ns[i] = w.log.append(modelNotification(r))
	}
	w.hub.PublishLogged(ns...)
	for _, n := range ns {
		w.add(occurrence{cursor: n.Cursor, notification: n})
	}
}

func modelNotification(r *rand.Rand) wire.Notification {
	n := execution(r.Int64N(4))
	if r.IntN(3) == 0 {
		n.EntityType = "inquiry"
	}
	if r.IntN(3) == 0 {
		n.UserID = new(r.Int64N(2))
	}
	return n
}

func modelGap(r *rand.Rand) wire.GapReason {
	if r.IntN(2) == 0 {
		return wire.GapSourceOverflow
	}
	return wire.GapListenerReconnected
}

// add is called with w.mu held, but for the first.
func (w *world) add(o occurrence) {
	w.places[o.cursor] = uint64(len(w.happened))
	w.happened = append(w.happened, o)
}

// at returns what happened at that place.
func (w *world) at(place uint64) (occurrence, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if place >= uint64(len(w.happened)) {
		return occurrence{}, false
	}
	return w.happened[place], true
}

// placeOf returns the place of what has that cursor.
func (w *world) placeOf(c wire.Cursor) (uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	place, ok := w.places[c]
	return place, ok
}

// now is the place of the latest.
func (w *world) now() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return uint64(len(w.happened)) - 1
}

// outsideLog returns the unlogged notification that m is.
func (w *world) outsideLog(m *wire.Notification) (occurrence, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, err := strconv.Atoi(string(m.Payload))
	if err != nil {
		return occurrence{}, false // a row's
	}
	return w.unlogged[i-1], true
}

// pause lets the others run for a while.
func pause(r *rand.Rand, most int) {
	for range r.IntN(most) {
		runtime.Gosched()
	}
}

// position is where a client stands; known is false before its first subscription.
type position struct {
	place uint64
	known bool
}

// connection is one connection of a client, and what it received.
type connection struct {
	w   *world
	sub *broadcast.Subscriber

	start    position       // resumed from, if known
	badStart wire.GapReason // why the cursor that it came with is none
	received []wire.ServerMessage
	err      error

	complete bool   // everything up to end should have come
	end      uint64 // a place
}

func modelFilters(r *rand.Rand) []wire.Filter {
	var list []wire.Filter
	for range 1 + r.IntN(3) {
		texts := []string{
			"all", "entity_type:execution", "entity_type:inquiry", "entity:execution:1", "entity:inquiry:2", "user:0", "user:1",
			"notification_type:execution_status_changed", "notification_type:never",
		}
		f, err := wire.ParseFilter(texts[r.IntN(len(texts))])
		if err != nil {
			panic(err)
		}
		list = append(list, f)
	}
	return list
}

// dial connects and subscribes, mostly from where the client stands.
func dial(w *world, r *rand.Rand, from position) *connection {
	c := &connection{w: w}
	c.sub, _ = w.hub.Connect()
	now := w.hub.Cursor()
	var cursor *string
	resume := func(epoch string, offset uint64) { cursor = new(wire.Cursor{Epoch: epoch, Offset: offset}.String()) }
	resumeFrom := func(place uint64) {
		c.start = position{place, true}
		o, _ := w.at(place)
		resume(o.cursor.Epoch, o.cursor.Offset)
	}
	switch choice := r.IntN(10); {
	case choice == 0:
		c.badStart, cursor = wire.GapCursorInvalid, new("nonsense")
	case choice == 1:
		c.badStart = wire.GapCursorUnknown
		resume("another", now.Offset)
	case choice == 2:
		c.badStart = wire.GapCursorUnknown
		resume(now.Epoch, now.Offset+1_000_000_000)
	case choice == 3 && from.known: // from further back
		resumeFrom(from.place - min(from.place, r.Uint64N(100)))
	case choice > 4 && from.known:
		resumeFrom(from.place)
	}
	list := modelFilters(r)
	_ = c.sub.Subscribe(context.Background(), list, cursor, acknowledge(list)) // it may be slow already
	return c
}

// live reads, changes filters and leaves, at random.
func (c *connection) live(t *testing.T, r *rand.Rand) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seed := r.Uint64()
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rand.NewPCG(seed, 0))
		var frames []*wire.Frame
		for c.err == nil {
			frames, c.err = c.sub.Next(ctx, frames[:0])
			c.received = append(c.received, messages(frames)...)
			if r.IntN(4) == 0 {
				pause(r, 300)
			}
		}
	})
	for range r.IntN(12) {
		pause(r, 300)
		switch f := modelFilters(r)[:1]; r.IntN(4) {
		case 0, 1:
			_ = c.sub.Subscribe(t.Context(), f, nil, acknowledge(f)) // it may have ended
		case 2:
			c.sub.Unsubscribe(f[0], wire.Unsubscribed{Filter: f[0].String()})
		case 3:
			c.sub.Send(wire.Pong{})
		}
	}
	if r.IntN(3) == 0 {
		cancel() // gone without a word: it stands where it stopped reading
		wg.Wait()
	}
	c.sub.Close()
	wg.Wait()
}

// follow reads until everything has come that was published before quiet was set.
func (c *connection) follow(t *testing.T, quiet *atomic.Bool) {
	t.Helper()
	for last := false; !last && c.err == nil; {
		last = quiet.Load() // and then once more
		var got []wire.ServerMessage
		got, c.err = drainError(t, c.sub)
		c.received = append(c.received, got...)
		runtime.Gosched()
	}
}

// tally counts what the runs came across.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (y *tally) add(what string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.counts == nil {
		y.counts = make(map[string]int)
	}
	y.counts[what]++
}
