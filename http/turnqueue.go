package http

import (
	"runtime"
	"sync"
	"time"
)

const (
	// pace is how far apart deliveries to a busy stream are, so that what gathers in
	// between goes out in one write. After a pause, which is longer than a source leaves
	// notifications to gather, atOnce are not put off.
	pace   = time.Millisecond
	pause  = 8 * pace
	atOnce = 3
	// fewTurns are taken by whoever made them due.
	fewTurns = 2
	// turnsEach is how many turns are worth another worker.
	turnsEach = 8
	// crowd is how many turns are begun with before the rest of a notification is queued.
	crowd = 1024
	// After a pause of all, what counts is when something arrives: turns are begun with as soon
	// as a stint of them is queued, and after each stint a worker lets whoever was woken have
	// its core, a client on this machine or a proxy. In a rush, it would cost more than it brings.
	stint = 16
	// Who has made turns due for busyFor without a pause of a breather is busy: he is
	// spared the turns, and workers take them meanwhile.
	breather = 10 * time.Microsecond
	busyFor  = 200 * time.Microsecond
)

// turnQueue is where streams wait for which the hub has something.
//
// Nearly every turn delivers to a client that takes it at once, and most are over
// sooner than a goroutine could be woken for them. So quick turns are taken one after
// the other: by whoever published, where they are few, otherwise by at most as many
// workers as there are cores, who go when the queue is empty. A quick turn never waits
// and is bounded, so that none holds up the others; see stream.quickTurn.
//
// A write costs far more than a message. A busy stream that was delivered to less than a
// pace ago is put off until the next tick, unless its queue fills up; while nothing is put
// off, there is no tick. All make way for the source while that has more to read, but for
// those that should not wait (see giveWay); these and the others go by turns.
type turnQueue struct {
	mu      sync.Mutex
	first   turns // those that should not wait
	due     turns // some were taken out of turn since, and are passed over
	byTurns bool  // first had one, then due has the next
	putOff  []*stream
	tick    *time.Timer
	ticking bool
	source  giveWay

	workers int
	run     func() // work; kept, for a worker that starts must allocate nothing
	working sync.WaitGroup
	calm    bool // they began after a pause
	stopped bool

	left      time.Time // when somebody last made turns due, and had taken them
	busySince time.Time // when whoever does began to, without a breather
}

// Where a stream is in a turnQueue. Written under its lock, but for the way out.
const (
	turnNone   int32 = iota
	turnDue          // in due; may be put off
	turnPutOff       // in putOff
	turnRipe         // in due; was put off
	turnNow          // in first
)

// turns are streams in the order in which they came.
type turns struct {
	list []*stream // from head on
	head int
}

func (t *turns) len() int { return len(t.list) - t.head }

func (t *turns) push(c *stream) { t.list = append(t.list, c) }

// pop takes the first of them, of which there must be one.
func (t *turns) pop() *stream {
	c := t.list[t.head]
	t.list[t.head] = nil
	if t.head++; t.head == len(t.list) {
		t.list, t.head = t.list[:0], 0
	}
	return c
}

// add has c's turn taken, with now as soon as can be. It is for the hub, which holds
// locks: turns are taken when it calls settle, and of a crowd before that, by workers.
func (q *turnQueue) add(c *stream, now bool) {
	if at := c.queued.Load(); at == turnNow || (at != turnNone && !now) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	at := c.queued.Load()
	switch {
	case now && at != turnNow:
		c.queued.Store(turnNow)
		q.first.push(c)
	case at == turnNone:
		c.queued.Store(turnDue)
		q.due.push(c)
	}
	if n := q.waiting(); n%crowd == 0 || n == stint && q.paused() {
		q.hire()
	}
}

// waiting returns how many turns are due. It is called with q.mu held.
func (q *turnQueue) waiting() int { return q.first.len() + q.due.len() }

// paused reports whether nothing was due for a pause until now. It is called with q.mu held.
func (q *turnQueue) paused() bool { return time.Since(q.left) >= pause }

// settle takes the turns that are due, or has them taken.
func (q *turnQueue) settle() {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.left) > breather {
		q.busySince = now
	}
	if due := q.waiting(); q.workers == 0 && due <= fewTurns && now.Sub(q.busySince) < busyFor {
		for range due {
			q.takeNext()
		}
		now = time.Now()
	}
	q.hire() // asks when that was last
	q.left = now
}

// hire starts the workers that are missing. It is called with q.mu held.
func (q *turnQueue) hire() {
	due := q.waiting()
	if due == 0 || q.stopped {
		return
	}
	if q.first.len() == 0 && q.source.resting() {
		q.startTick()
		return
	}
	if q.run == nil {
		q.run = q.work
	}
	if q.workers == 0 {
		q.calm = q.paused()
	}
	for q.workers < min(1+due/turnsEach, runtime.GOMAXPROCS(0)) {
		q.workers++
		q.working.Add(1)
		go q.run()
	}
}

func (q *turnQueue) work() {
	defer q.working.Done()
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := 1; q.takeNext(); n++ {
		if q.calm && n%stint == 0 {
			q.calm = n < crowd // which is through sooner without
			q.mu.Unlock()
			yieldCore()
			q.mu.Lock()
		}
	}
	q.workers--
	if q.waiting() > 0 {
		q.startTick()
	}
}

// next returns where the next turn that may be taken now is from, nil: there is none. It is
// called with q.mu held.
func (q *turnQueue) next() *turns {
	switch {
	case q.first.len() > 0 && !q.byTurns:
		q.byTurns = true
		return &q.first
	case q.source.next(q.due.len()):
		q.byTurns = false
		return &q.due
	case q.first.len() > 0:
		return &q.first
	}
	return nil
}

// takeNext takes the next turn that may be taken now, or puts it off, and reports whether
// there was one. It is called with q.mu held, which it gives back meanwhile.
func (q *turnQueue) takeNext() bool {
	from := q.next()
	if from == nil {
		return false
	}
	c := from.pop()
	if from == &q.due {
		switch at := c.queued.Load(); {
		case at != turnDue && at != turnRipe:
			return true // it was taken out of turn, or will be
		case at == turnDue && q.busy(c):
			c.queued.Store(turnPutOff)
			q.putOff = append(q.putOff, c)
			q.startTick()
			return true
		}
	}
	q.mu.Unlock()
	defer q.mu.Lock()
	c.queued.Store(turnNone) // before it looks: what comes from now on is told anew
	c.quickTurn()
	return true
}

// busy reports whether c has come back so soon, and not for the first time since it
// paused, that it should be put off. It is called with q.mu held.
func (q *turnQueue) busy(c *stream) bool {
	since := time.Since(c.server.started) - time.Duration(c.delivered.Load())
	if since >= pause {
		c.soon = 0
	}
	if since >= pace {
		return false
	}
	if c.soon < atOnce {
		c.soon++
		return false
	}
	return true
}

// startTick is called with q.mu held.
func (q *turnQueue) startTick() {
	switch {
	case q.ticking || q.stopped:
		return
	case q.tick == nil:
		q.tick = time.AfterFunc(pace, q.takePutOff)
	default:
		q.tick.Reset(pace)
	}
	q.ticking = true
}

// takePutOff makes due what was put off, and has it taken with what is due already.
func (q *turnQueue) takePutOff() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ticking = false
	for _, c := range q.putOff {
		if c.queued.Load() == turnPutOff { // and not made due, or even put off again, meanwhile
			c.queued.Store(turnRipe)
			q.due.push(c)
		}
	}
	clear(q.putOff)
	q.putOff = q.putOff[:0]
	q.hire()
}

// stop waits for the workers. No stream may be open any more.
func (q *turnQueue) stop() {
	q.mu.Lock()
	q.stopped = true
	if q.tick != nil {
		q.tick.Stop()
	}
	q.mu.Unlock()
	q.working.Wait()
}
