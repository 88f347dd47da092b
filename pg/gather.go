package pg

import (
	"fmt"
	"time"
)

// When notifications are left to gather: above 4,000 reads a second, and for as long
// as that is about what a wait brings.
const (
	gatherFor   = 4 * time.Millisecond
	gatherReads = 16
	gatherIn    = 4 * time.Millisecond
	gatherWorth = 16
)

// gatherStatement returns what takes PostgreSQL gatherFor. The schema is named so that
// nobody else's function runs.
func gatherStatement() string {
	return fmt.Sprintf("SELECT pg_catalog.pg_sleep(%g) -- attune lets notifications gather", gatherFor.Seconds())
}

// gather decides when a busy connection is left alone for a while. To be woken for each
// notification costs PostgreSQL's process as much as committing it, and this one as much as
// reading, decoding and publishing it; and what is read together is delivered together.
type gather struct {
	busy  bool
	since time.Time
	reads int
	came  int // notifications since then
}

// read counts a read at the time at, which brought n, and reports whether to wait for
// gatherFor before the next one. While something is unread it decides nothing.
func (g *gather) read(at time.Time, n int, unread bool) (wait bool) {
	g.came += n
	if unread {
		return false
	}
	g.reads++
	switch {
	case g.busy:
		g.busy = g.came >= gatherWorth
	case g.reads < gatherReads:
		return false
	default:
		g.busy = at.Sub(g.since) < gatherIn
	}
	g.since, g.reads, g.came = at, 0, 0
	return g.busy
}
