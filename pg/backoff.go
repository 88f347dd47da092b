package pg

import (
	"math/rand/v2"
	"time"
)

// The waits between attempts to reconnect. The first attempt is made at once: most
// connections are lost to a restart or a kill and can be had again immediately.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 10 * time.Second
)

// backoff spaces attempts: 0, then about 100 ms, doubling up to about 10 s. Half of
// each wait is random, so that many servers do not come back in step. The zero
// backoff is ready.
type backoff struct {
	next time.Duration
}

// wait returns how long to wait before the next attempt.
func (b *backoff) wait() time.Duration {
	d := b.next
	if d == 0 {
		b.next = backoffFirst
		return 0
	}
	b.next = min(2*d, backoffMost)
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load, guards no secret
}

// reset makes the next attempt a first one.
func (b *backoff) reset() { b.next = 0 }
