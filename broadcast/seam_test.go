package broadcast_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"attune/broadcast"
	"attune/wire"
)

// Ten thousand times a client is cut off anywhere, in replay and in live delivery, and
// comes back with the last cursor that it saw: nothing is missing, nothing comes twice.
func TestHub_Seam(t *testing.T) {
	const window = 4096
	h := broadcast.New(broadcast.Options{QueueSize: window, WindowSize: window})
	runSeam(t, h, func(n wire.Notification) { h.Publish(n) }, 10_000, window)
}

// With a log behind the window there are two seams, and nobody is ever too late.
func TestHub_Log_Seam(t *testing.T) {
	log := new(history)
	h := broadcast.New(broadcast.Options{QueueSize: 4096, WindowSize: 50, Backlog: log})
	h.Restart("log", 0, wire.GapCursorUnknown)
	runSeam(t, h, func(n wire.Notification) { h.PublishLogged(log.append(n)) }, 3_000, 1000)
}

// runSeam cuts clients off so many times. Nobody is further behind than most.
func runSeam(t *testing.T, h *broadcast.Hub, publish func(wire.Notification), cuts int, most int64) {
	t.Helper()
	const clients = 8
	cuts /= clients // of each
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	start := h.Cursor().String()
	readers := make([]*seamReader, clients)
	for i := range readers {
		readers[i] = &seamReader{
			random: rand.New(rand.NewPCG(seed, uint64(i))),
			cursor: start,
			kind:   int64(i % 4),
		}
	}
	var published int64
	var stop atomic.Bool
	var busy atomic.Int64 // readers that have cuts to make
	busy.Store(clients)
	var publisher, running sync.WaitGroup
	publisher.Go(func() {
		// Never so far ahead that a reader's cursor could expire; often so little that
		// readers catch up and are live.
		random := rand.New(rand.NewPCG(seed, clients))
		for lead := int64(1); !stop.Load(); {
			behind := published
			for _, r := range readers {
				behind = min(behind, r.seen.Load())
			}
			if busy.Load() == 0 { // who has made the cuts reads no more; the others are to come to an end
				lead = most - most/4
			}
			if published-behind >= lead {
				lead = 1 + random.Int64N(10)
				if random.IntN(50) == 0 {
					lead = 1 + random.Int64N(most/2)
				}
				runtime.Gosched()
				continue
			}
			published++
			publish(seamNotification(published))
		}
	})
	for _, r := range readers {
		running.Go(func() {
			for n := 0; n < cuts || busy.Load() > 0; n++ { // the first wait for the last
				if n == cuts {
					busy.Add(-1)
				}
				if !r.connect(t, h, 1+r.random.IntN(8)) {
					busy.Store(0)
					return
				}
			}
		})
	}
	running.Wait()
	stop.Store(true)
	publisher.Wait()

	var replayed, live int
	for _, r := range readers {
		replayed, live = replayed+r.replayed, live+r.live
		s := connect(t, h)
		resume(t, s, r.cursor, r.filter().String())
		r.accept(t, drain(t, s), 0, int(published)) // the rest
		if next := r.next(); next <= published && !t.Failed() {
			t.Errorf("%d of %d is missing in the end", next, published)
		}
	}
	t.Logf("%d published; received %d by replay, %d live", published, replayed, live)
	if replayed == 0 || live == 0 {
		t.Error("one side of the seam was never tried")
	}
}

// seamNotification is of one of three entity types.
func seamNotification(id int64) wire.Notification {
	n := execution(id)
	n.EntityType = fmt.Sprintf("kind%d", id%3)
	return n
}

// seamReader reads all notifications, or those of one kind, in short connections.
type seamReader struct {
	random *rand.Rand
	kind   int64  // 3: all
	cursor string // of the last notification that was read

	seen           atomic.Int64 // its id
	replayed, live int
}

func (r *seamReader) filter() wire.Filter {
	if r.kind == 3 {
		return mustFilter("all")
	}
	return mustFilter(fmt.Sprintf("entity_type:kind%d", r.kind))
}

// next returns the id that must come next.
func (r *seamReader) next() int64 {
	id := r.seen.Load() + 1
	for r.kind != 3 && id%3 != r.kind {
		id++
	}
	return id
}

// connect resumes, reads that many notifications and is cut off, in the middle of what
// came or at its end. It reports whether all was as it should be.
func (r *seamReader) connect(t *testing.T, h *broadcast.Hub, most int) bool {
	t.Helper()
	s, _ := h.Connect()
	defer s.Close()
	list := []wire.Filter{r.filter()}
	if err := s.Subscribe(t.Context(), list, &r.cursor, acknowledge(list)); err != nil {
		t.Errorf("subscribe: %v", err)
		return false
	}
	now := h.Cursor().Offset
	var frames []*wire.Frame
	for most > 0 {
		var err error
		if frames, err = s.Next(t.Context(), frames[:0]); err != nil {
			t.Errorf("next: %v", err)
			return false
		}
		if most = r.accept(t, messages(frames), now, most); most < 0 {
			return false
		}
	}
	return true
}

// accept takes up to most notifications, each of which must be the next; the others
// are lost with the connection. It returns how many more may come, -1 after an error.
func (r *seamReader) accept(t *testing.T, received []wire.ServerMessage, now uint64, most int) int {
	t.Helper()
	for _, m := range received {
		switch m := m.(type) {
		case wire.Subscribed:
			if m.Cursor.String() != r.cursor {
				t.Errorf("resumed from %s, acknowledged from %s", r.cursor, m.Cursor)
				return -1
			}
		case wire.Notification:
			if most == 0 {
				return 0
			}
			most--
			id, _ := m.EntityID.Int64()
			if want := r.next(); id != want {
				t.Errorf("kind %d: %d came after %d, want %d", r.kind, id, r.seen.Load(), want)
				return -1
			}
			if m.Cursor.Offset <= now {
				r.replayed++
			} else {
				r.live++
			}
			r.cursor = m.Cursor.String()
			r.seen.Store(id)
		default:
			t.Errorf("got %#v", m)
			return -1
		}
	}
	return most
}
