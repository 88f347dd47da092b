package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spreads attempts in time: delays double from first to most, each drawn
// from the upper half of its range, so that the clients of a server that went away
// do not come back all at once.
type backoff struct {
	first, most time.Duration
	delay       time.Duration // of the attempt before; 0: none
}

// next returns how long to wait before the next attempt.
func (b *backoff) next() time.Duration {
	b.delay = min(max(2*b.delay, b.first), b.most)
	return b.delay/2 + rand.N(b.delay/2+1) //nolint:gosec // spreads load, guards nothing
}

// reset forgets the attempts before: things are well again.
func (b *backoff) reset() { b.delay = 0 }

// sleep waits for d or until ctx is done, and reports whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
