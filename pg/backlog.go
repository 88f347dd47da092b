package pg

import (
	"sync/atomic"
	"time"
)

// In a rush, more than 40,000 notifications a second, the reader catches up now and then,
// for a moment. That is no reason to think that it is over: the next rushIn tell, or that
// nothing is read for rushMost.
const (
	rushRate = 40 // a millisecond
	rushIn   = 20 * time.Millisecond
	rushMost = 250 * time.Millisecond
)

// backlog tells anyone whether there is more to read than what was read. The reader's
// methods are called from one goroutine.
type backlog struct {
	made   time.Time
	unread atomic.Bool
	rush   atomic.Int64 // until when there is one: nanoseconds after made

	from   time.Duration // since then, after made,
	came   int           // that many came, and
	behind bool          // there was more unread
}

func newBacklog() *backlog { return &backlog{made: time.Now()} }

// read says that n were read, and whether there was more.
func (b *backlog) read(n int, unread bool) {
	b.unread.Store(unread)
	b.came += n
	b.behind = b.behind || unread
	now := time.Since(b.made)
	lasted := now - b.from
	if lasted < rushIn {
		return
	}
	b.rush.Store(0)
	if b.behind && b.came > rushRate*int(lasted/time.Millisecond) {
		b.rush.Store(int64(now + rushMost))
	}
	b.from, b.came, b.behind = now, 0, false
}

// clear says that nothing is read any more.
func (b *backlog) clear() {
	b.unread.Store(false)
	b.rush.Store(0)
}

func (b *backlog) is() bool {
	return b.unread.Load() || int64(time.Since(b.made)) < b.rush.Load()
}
