package pg

import (
	"io"
	"time"
)

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

// Tap is a tap as the session uses it.
type Tap struct{ *tap }

// TapNotification is what a Tap has heard.
type TapNotification struct{ Channel, Payload string }

// NewTap returns a Tap that reads r.
func NewTap(r io.Reader) Tap { return Tap{newTap(r)} }

// Wait waits until there is something to take, or for pgx to read.
func (t Tap) Wait() error { return t.wait() }

// Take returns what the tap hands over next.
func (t Tap) Take() (ns []TapNotification) {
	t.forget()
	for _, n := range t.take() {
		ns = append(ns, TapNotification{n.channel, string(n.payload)})
	}
	return ns
}

// Unread reports whether there is more than what was taken.
func (t Tap) Unread() bool { return t.unread() }

// Backlog is a backlog.
type Backlog struct{ *backlog }

// NewBacklog returns a Backlog.
func NewBacklog() Backlog { return Backlog{newBacklog()} }

// Read says that n were read, and whether there was more.
func (b Backlog) Read(n int, unread bool) { b.read(n, unread) }

// Is reports whether there is one.
func (b Backlog) Is() bool { return b.is() }
