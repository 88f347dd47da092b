package http

import (
	"context"
	"errors"
	"net/http"
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
type readings struct {
	hub *broadcast.Hub

	mu    sync.Mutex
	rows  map[wire.Filter]*row
	swept time.Time
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
	done  chan struct{} // closed when it has been read
	err   error
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

// get returns the row that f names, read with load unless what is known will do, which
// it will not for who wants it anew. The reading is shared: it must not be changed.
func (rs *readings) get(ctx context.Context, f wire.Filter, anew bool, load func(context.Context, *reading) error) (*reading, error) {
	q := rs.ask(f, anew)
	for {
		shared, mine, accepted := rs.join(f, q)
		if mine {
			rs.load(ctx, f, shared, load)
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
func (rs *readings) forget(f wire.Filter) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.rows[f]; r != nil {
		r.shared.watch.Close()
	}
}

// ask counts a request for a row.
func (rs *readings) ask(f wire.Filter, anew bool) request {
	now := time.Now()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	often := false
	if r := rs.rows[f]; r != nil {
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
func (rs *readings) join(f wire.Filter, q request) (shared *sharedReading, mine, accepted bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.rows[f]
	if r == nil {
		rs.sweep()
		r = &row{asked: q.at}
		rs.rows[f] = r
	} else if accepted = q.accepts(r.shared); accepted || !r.shared.finished() {
		return r.shared, false, accepted
	} else {
		r.shared.watch.Close()
	}
	r.shared = &sharedReading{done: make(chan struct{}), err: errBrokenOff}
	r.shared.begun = time.Now()
	r.shared.watch, r.shared.cursor = rs.hub.Watch(f)
	return r.shared, true, true
}

// load reads a row, and has it kept if it may be.
func (rs *readings) load(ctx context.Context, f wire.Filter, shared *sharedReading, load func(context.Context, *reading) error) {
	// Whoever asked first may go away: the others still want the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
	defer cancel()
	defer close(shared.done)
	shared.err = load(ctx, &shared.reading)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if shared.err != nil || len(shared.body) > maxReadingBytes || len(rs.rows) > maxReadings {
		shared.watch.Close()
		delete(rs.rows, f)
	}
}

// sweep forgets, now and then, the rows that nobody asks for.
func (rs *readings) sweep() {
	now := time.Now()
	if now.Sub(rs.swept) < keepReading {
		return
	}
	rs.swept = now
	for f, r := range rs.rows {
		if now.Sub(r.asked) > keepReading && r.shared.finished() {
			r.shared.watch.Close()
			delete(rs.rows, f)
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
