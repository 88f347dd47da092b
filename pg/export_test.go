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
