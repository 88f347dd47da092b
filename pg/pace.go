package pg

import "time"

// When the log is read instead of announced, and when it is announced again: above 1,000
// rows a second, and below 500. What is read is up to pollInterval late, and costs
// a query each time; what is announced costs each writer, and all that wait behind it.
const (
	pollInterval = 5 * time.Millisecond

	fastRows   = 64
	fastWithin = 64 * time.Millisecond
	slowRows   = 250
	slowWithin = 500 * time.Millisecond
)

// pace measures how fast rows come.
type pace struct {
	polling bool
	next    time.Time // of the next read; zero while rows are announced
	since   time.Time
	rows    int // that came since then
}

// fast counts a row that was announced at the time at, and reports whether they come
// too fast for that. A burst that is over soon does not count.
func (p *pace) fast(at time.Time) bool {
	p.rows++
	if p.rows < fastRows {
		return false
	}
	fast := at.Sub(p.since) < fastWithin
	p.rows, p.since = 0, at
	return fast
}

// slow reports whether so few rows were read that they may be announced again.
func (p *pace) slow(now time.Time) bool {
	if now.Sub(p.since) < slowWithin {
		return false
	}
	slow := p.rows < slowRows
	p.rows, p.since = 0, now
	return slow
}

// rest says when the log is to be read next.
func (p *pace) rest(now time.Time) {
	p.next = time.Time{}
	if p.polling {
		p.next = now.Add(pollInterval)
	}
}
