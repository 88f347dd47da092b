package http

import "time"

// How long deliveries rest for the source: as a multiple of what they took, and at most.
const (
	restFactor = 2
	mostRest   = 200 * time.Millisecond
)

// giveWay has deliveries make way for the source while there is more of it to read.
//
// They come in rounds then, of the turns that were due when the round began, and after
// each they rest for twice as long as it took. So the source gets two thirds of the time,
// however many deliveries a notification makes; what comes for the same stream meanwhile
// goes out in one write, and all are through sooner than if each had been written at once.
type giveWay struct {
	unread func() bool // nil: there never is more
	left   int         // turns of the round that were not begun
	began  time.Time   // when the round did; zero between rounds
	until  time.Time   // when the rest after it is over
}

// next reports whether the next of so many due turns may be taken now.
func (g *giveWay) next(due int) bool {
	if !g.asked() {
		g.left, g.began, g.until = 0, time.Time{}, time.Time{}
		return due > 0
	}
	if due > 0 && g.left > 0 {
		g.left--
		return true
	}
	now := time.Now()
	if !g.began.IsZero() {
		g.until = now.Add(min(restFactor*now.Sub(g.began), mostRest))
		g.left, g.began = 0, time.Time{}
	}
	if due == 0 || now.Before(g.until) {
		return false
	}
	g.left, g.began = due-1, now
	return true
}

// resting reports whether no turn may be taken now.
func (g *giveWay) resting() bool { return g.asked() && time.Now().Before(g.until) }

func (g *giveWay) asked() bool { return g.unread != nil && g.unread() }
