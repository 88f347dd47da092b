package http

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"attune/broadcast"
	"attune/wire"
)

const (
	// keepReading is how old a known row may be that is answered with. What the hub
	// hears of is newer at once; this bounds what it does not hear of: a change without
	// a notification.
	keepReading = 250 * time.Millisecond
	// oftenAsked is how many requests, none keepReading after the one before, have a
	// row answered as it is known. Below that each is worth a query.
	oftenAsked = 16
	// roundEvery is how often, at most, rows are read while notifications do not arrive:
	// then all who wait ask again and again, most of them for rows of their own.
	roundEvery = 500 * time.Millisecond
	// Rows that are kept, and how large they may be.
	maxReadings     = 1024
	maxReadingBytes = 64 << 10
)

// wantsNew reports whether a request is not to be answered with what is known: its
// client has written by another way, and must see it.
func wantsNew(r *http.Request) bool {
	for _, directives := range r.Header.Values("Cache-Control") {
		if strings.Contains(strings.ToLower(directives), "no-cache") {
			return true
		}
	}
	return false
}

// errBrokenOff is what those get who waited for a reading that was never finished.
var errBrokenOff = errors.New("the read was broken off")

// rowName names a row that is read: an execution or an entity.
type rowName struct {
	entityType, id string // by which it is told of
	execution      int64
	isExecution    bool
}

// reading is a row as it was read.
type reading struct {
	execution wire.Execution // of an execution
	owner     *int64         // whose it is; nil: nobody's
	body      []byte         // nil where there is no such row
	etag      string
	cursor    wire.Cursor // from before the query
	begun     time.Time   // before the query
}

func (r *reading) set(row any) {
	r.body = encode(row)
	r.etag = etagOf(r.body)
}

func (r *reading) setExecution(x wire.Execution) {
	r.execution, r.owner = x, x.Executor
	r.set(x)
}

// readings are the rows that are read, one query at a time each: those who ask while
// one runs share the next, which begins after they asked, so that whoever has written,
// and asks then, sees it. A row that is asked for often is answered as it is known, as
// long as the hub has heard of no change: never older than a notification that was
// received before, and never older than keepReading.
//
// While the source is degraded rows are read in rounds, so that those who wait cost the
// database what one costs.
type readings struct {
	hub *broadcast.Hub

	mu    sync.Mutex
	rows  map[rowName]*row
	swept time.Time
	round *round    // that lies ahead, if any
	began time.Time // the latest round, or when it will
}

// row is a row that is asked for.
type row struct {
	shared *sharedReading
	asks   int       // each within keepReading of the one before
	asked  time.Time // the last of them
}

// sharedReading is a row that is being read, or was.
type sharedReading struct {
	reading

	watch *broadcast.Watch
	round *round        // that it is read in; nil: by itself
	done  chan struct{} // closed when it has been read
	err   error
}

// round is what is read at one time: of each table all rows in one query.
type round struct {
	begins     time.Time
	executions roundTable[int64, wire.Execution]
	entities   map[string]*roundTable[string, wire.Entity] // by type
}

// roundTable is what is read of one table in a round.
type roundTable[K comparable, V any] struct {
	ids []K // under readings.mu, until the round is closed

	once sync.Once
	rows map[K]V
	err  error
}

// get returns a row, if it is among those that read returned for all ids: it is called
// for the first who asks.
func (t *roundTable[K, V]) get(id K, read func(ids []K) (map[K]V, error)) (row V, ok bool, err error) {
	t.once.Do(func() {
		t.rows = make(map[K]V, len(t.ids))
		for ids := range slices.Chunk(t.ids, maxReadings) {
			var rows map[K]V
			if rows, t.err = read(ids); t.err != nil {
				return
			}
			maps.Copy(t.rows, rows)
		}
	})
	if row, ok = t.rows[id]; ok {
		return row, true, nil
	}
	return row, false, t.err
}

// request is what somebody who asks for a row accepts.
type request struct {
	at     time.Time
	oldest time.Time // that what is known may be
}

// accepts reports whether a reading will do: it was begun after the request was made,
// or nothing is known to have changed since.
func (q request) accepts(shared *sharedReading) bool {
	return shared.begun.After(q.at) || shared.begun.After(q.oldest) && !shared.watch.Stale()
}

// get returns the row of that name, read with load unless what is known will do, which
// it will not for who wants it anew. The reading is shared: it must not be changed.
func (rs *readings) get(ctx context.Context, name rowName, anew bool, load func(context.Context, *sharedReading) error) (*reading, error) {
	q := rs.ask(name, anew)
	for {
		shared, mine, accepted := rs.join(name, q)
		if mine {
			rs.load(ctx, name, shared, load)
		}
		select {
		case <-shared.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if accepted {
			return &shared.reading, shared.err
		}
	}
}

// forget has the next who asks for a row read it.
func (rs *readings) forget(name rowName) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.rows[name]; r != nil {
		r.shared.watch.Close()
	}
}

// ask counts a request for a row.
func (rs *readings) ask(name rowName, anew bool) request {
	now := time.Now()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	often := false
	if r := rs.rows[name]; r != nil {
		if now.Sub(r.asked) > keepReading {
			r.asks = 0
		}
		r.asks++
		r.asked = now
		often = r.asks > oftenAsked
	}
	if often && !anew {
		return request{at: now, oldest: now.Add(-keepReading)}
	}
	return request{at: now, oldest: now}
}

// join returns a reading of the row and whether it will do for q; otherwise it is only
// to be waited for, since each row is read by one at a time. A new one is the caller's
// to load.
func (rs *readings) join(name rowName, q request) (shared *sharedReading, mine, accepted bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.rows[name]
	if r == nil {
		rs.sweep()
		r = &row{asked: q.at}
		rs.rows[name] = r
	} else if accepted = q.accepts(r.shared); accepted || !r.shared.finished() {
		return r.shared, false, accepted
	} else {
		r.shared.watch.Close()
	}
	r.shared = &sharedReading{done: make(chan struct{}), err: errBrokenOff}
	r.shared.begun = time.Now()
	r.shared.watch, r.shared.cursor = rs.hub.Watch(wire.EntityFilter(name.entityType, name.id))
	if rs.hub.Mode() != wire.ModeLive {
		r.shared.round = rs.nextRound(name, r.shared.begun)
		r.shared.begun = r.shared.round.begins
	}
	return r.shared, true, true
}

// nextRound has a row read in the next round, which begins now if there was none of late.
// It is called with rs.mu held.
func (rs *readings) nextRound(name rowName, now time.Time) *round {
	if rs.round == nil || !rs.round.begins.After(now) {
		begins := now
		if earliest := rs.began.Add(roundEvery); now.Before(earliest) {
			begins = earliest
		}
		rs.round = &round{begins: begins, entities: make(map[string]*roundTable[string, wire.Entity])}
		rs.began = begins
	}
	r := rs.round
	if name.isExecution {
		r.executions.ids = append(r.executions.ids, name.execution)
		return r
	}
	table := r.entities[name.entityType]
	if table == nil {
		table = &roundTable[string, wire.Entity]{}
		r.entities[name.entityType] = table
	}
	table.ids = append(table.ids, name.id)
	return r
}

// close has no more rows added to a round, and does not keep it: what is read in it is
// only for those who wait.
func (rs *readings) close(r *round) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.round == r {
		rs.round = nil
	}
}

// load reads a row, when its time has come, and has it kept if it may be.
func (rs *readings) load(ctx context.Context, name rowName, shared *sharedReading, load func(context.Context, *sharedReading) error) {
	// Whoever asked first may go away: the others still want the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
	defer cancel()
	defer close(shared.done)
	if shared.round != nil {
		<-time.After(time.Until(shared.begun))
		rs.close(shared.round)
	}
	shared.err = load(ctx, shared)
	shared.round = nil // the row may be kept, not all that was read with it
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if shared.err != nil || len(shared.body) > maxReadingBytes || len(rs.rows) > maxReadings {
		shared.watch.Close()
		delete(rs.rows, name)
	}
}

// sweep forgets, now and then, the rows that nobody asks for.
func (rs *readings) sweep() {
	now := time.Now()
	if now.Sub(rs.swept) < keepReading {
		return
	}
	rs.swept = now
	for name, r := range rs.rows {
		if now.Sub(r.asked) > keepReading && r.shared.finished() {
			r.shared.watch.Close()
			delete(rs.rows, name)
		}
	}
}

func (s *sharedReading) finished() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
