package pg

import "time"

// BackoffWaits returns the first n waits of a backoff, and the one after a reset.
func BackoffWaits(n int) (waits []time.Duration, afterReset time.Duration) {
	var b backoff
	for range n {
		waits = append(waits, b.wait())
	}
	b.reset()
	return waits, b.wait()
}

// Read is a read of the listen connection: so long after the one before, so many
// notifications.
type Read struct {
	After  time.Duration
	Brings int
	Unread bool // there is more
}

// GatherWaits returns the indexes of the reads after which more is left to gather.
func GatherWaits(reads []Read) (waits []int) {
	var g gather
	at := time.Now()
	for i, r := range reads {
		at = at.Add(r.After)
		if g.read(at, r.Brings, r.Unread) {
			waits = append(waits, i)
		}
	}
	return waits
}
