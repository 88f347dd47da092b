package broadcast_test

import (
	"context"
	"fmt"
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
// that matches from its start on, once and in order, or a gap first.
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
		t.Run(fmt.Sprintf("Queue%d_Window%d", opts.QueueSize, opts.WindowSize), func(t *testing.T) {
			runModel(t, opts, seed+uint64(i), &seen)
		})
	}
	t.Logf("seen: %+v", seen.counts)
	for _, what := range []string{
		"notification", "resumed", "slow", "closed", "complete", "gap listener_reconnected", "gap source_overflow", "gap cursor_expired",
		"gap cursor_unknown", "gap cursor_invalid",
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
	w := &world{hub: broadcast.New(opts), window: opts.WindowSize, happened: make(map[uint64]occurrence)}
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
			last.end = w.hub.Cursor().Offset
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
	window int

	mu       sync.Mutex
	happened map[uint64]occurrence // by the offset that it got
}

// occurrence is a notification that was published, or a gap.
type occurrence struct {
	notification wire.Notification
	gap          wire.GapReason
}

func (w *world) step(r *rand.Rand) {
	for range r.IntN(20) {
		w.mu.Lock()
		var o occurrence
		switch r.IntN(100) {
		case 0:
			o.gap = wire.GapListenerReconnected
			if r.IntN(2) == 0 {
				o.gap = wire.GapSourceOverflow
			}
			w.hub.Gap(o.gap)
		case 1:
			w.hub.SetMode(wire.ModeDegraded)
			w.hub.SetMode(wire.ModeLive)
			w.mu.Unlock()
			continue
		default:
			n := execution(r.Int64N(4))
			if r.IntN(3) == 0 {
				n.EntityType = "inquiry"
			}
			if r.IntN(3) == 0 {
				n.UserID = new(r.Int64N(2))
			}
			w.hub.Publish(n)
			n.Cursor = w.hub.Cursor()
			o.notification = n
		}
		w.happened[w.hub.Cursor().Offset] = o
		w.mu.Unlock()
	}
	pause(r, 200)
}

func (w *world) at(offset uint64) (occurrence, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.happened[offset]
	return o, ok
}

// pause lets the others run for a while.
func pause(r *rand.Rand, most int) {
	for range r.IntN(most) {
		runtime.Gosched()
	}
}

// position is where a client stands; known is false before its first subscription.
type position struct {
	offset uint64
	known  bool
}

// connection is one connection of a client, and what it received.
type connection struct {
	w   *world
	sub *broadcast.Subscriber

	start    position       // resumed from, if known
	badStart wire.GapReason // why the cursor that it came with is none
	received []wire.ServerMessage
	err      error

	complete bool // everything up to end should have come
	end      uint64
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
		c.start = position{from.offset - min(from.offset, r.Uint64N(100)), true}
		resume(now.Epoch, c.start.offset)
	case choice > 4 && from.known:
		c.start = from
		resume(now.Epoch, c.start.offset)
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
