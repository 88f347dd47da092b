// Package faults compares what was committed to a database with what each client of
// a server saw of it, while everything in between was broken on purpose.
//
// It knows the protocol and nothing of the server: no code is shared with the hub,
// the sources or the client, so that an error of theirs cannot hide itself here. Its
// tests are the fault suite; `make test-faults` runs them at length.
//
// A history is judged by what a client may rely on. Every matching notification
// committed after the acknowledgement, or after the cursor that a connection
// resumed from, arrives once and in commit order, or a gap came in its place; a gap
// excuses what was asked to be committed before it arrived, and nothing else.
package faults

import (
	"fmt"
	"slices"
	"time"
)

// Commit is a notification that was committed.
type Commit struct {
	Body

	// Asked is a time at which the commit had not been asked for yet, on the clock of
	// the clients that recorded.
	Asked time.Time
}

// Connection is what a client recorded of one connection.
type Connection struct {
	// Filters are those that it asked for first: in the URL, or in the first subscribe.
	Filters []string
	// Resume is the cursor that it asked for with them, "" for none. The cursor must
	// have come on an earlier connection in the history; one that has not is taken for
	// a foreign one, and owed a gap.
	Resume string
	// Frames are in the order in which they came.
	Frames []Frame
	// Complete: it was open to the end, and the end was so late that everything
	// committed should have come.
	Complete bool
}

// Client is a client's connections, one after the other.
type Client struct {
	Name        string
	Connections []Connection
}

// History is what happened.
type History struct {
	// Commits are in commit order.
	Commits []Commit
	Clients []Client
	// NoGaps: nothing happened that could not be made up for, so no client is to hear
	// of a gap. Telling of too many would keep every promise and be of no use. Gaps that
	// a client finds by itself do not count.
	NoGaps bool
}

// Kind names what is wrong.
type Kind string

// The kinds of violations.
const (
	Hole        Kind = "hole"              // a notification is missing, and no gap told
	Disorder    Kind = "disorder"          // it came after one that was committed later
	Duplicate   Kind = "duplicate"         // it came twice
	Unasked     Kind = "unasked"           // it matches no filter that was ever acknowledged
	AfterAck    Kind = "after_unsubscribe" // it matches only filters whose removal was acknowledged
	Phantom     Kind = "phantom"           // it was never committed, or not so
	BadCursor   Kind = "cursor"            // one cursor for two positions
	NeedlessGap Kind = "needless_gap"      // a gap where nothing was lost
	MissingGap  Kind = "missing_gap"       // a foreign cursor was resumed from as if it were known
	Unlogged    Kind = "unlogged"          // committed, and not in the log
	Memory      Kind = "memory"            // more than the cap
)

// undecodable is the reason of a gap that the product's client finds by itself, where
// it is handed what has come of a frame when the connection was cut in its midst.
const undecodable = "undecodable_frame"

// Violation is a promise that was broken.
type Violation struct {
	Kind   Kind
	Client string
	// Connection and Frame count from 0.
	Connection, Frame int
	Detail            string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: client %s, connection %d, frame %d: %s", v.Kind, v.Client, v.Connection, v.Frame, v.Detail)
}

// Report is what came out of a check.
type Report struct {
	// Commits were to be delivered on Connections; Delivered is how many notifications
	// came, each of them compared. Excused are those that did not come and that a gap
	// told of.
	Commits, Connections, Delivered, Gaps, Excused int
	Violations                                     []Violation
}

// Check judges a history.
func Check(h History) Report {
	k := &checker{history: h, places: make(map[string]place), positions: make(map[Body][]int, len(h.Commits))}
	k.report.Commits = len(h.Commits)
	for i, c := range h.Commits {
		k.positions[c.Body] = append(k.positions[c.Body], i+1)
	}
	for _, client := range h.Clients {
		k.client(client)
	}
	return k.report
}

// checker checks one client after the other. A position is the number of a commit,
// from 1; 0 is before all.
type checker struct {
	history   History
	positions map[Body][]int
	places    map[string]place // by cursor
	report    Report
}

// place is what is known of a cursor.
type place struct {
	position int
	// since is not zero where the position is only the latest that it may be: what was
	// asked for up to then may belong before the cursor.
	since time.Time
}

// stream is how far a connection has come.
type stream struct {
	checker *checker
	name    string
	number  int // of the connection
	frame   int
	conn    *Connection

	at      int       // the position of the last notification
	excused time.Time // what was asked for up to then may be missing, as long as nothing has come
	owed    bool      // a gap must come before any notification
	acked   bool
	// filters are the active ones.
	filters map[string]start
	removed map[string]bool
	seen    map[int]bool
}

// start is from where on a filter counts.
type start struct {
	// since is when it was acknowledged, as long as nothing has come that was committed
	// after it; zero: it counts from the position on.
	since time.Time
	// whole: nothing may be missing between what comes, even if it was committed before
	// the acknowledgement. It does not hold for a filter that is added while the server
	// still reads up: that counts from where the server is.
	whole bool
}

func (k *checker) client(c Client) {
	for i := range c.Connections {
		s := &stream{
			checker: k, name: c.Name, number: i, conn: &c.Connections[i],
			filters: make(map[string]start), removed: make(map[string]bool), seen: make(map[int]bool),
		}
		s.check()
		k.report.Connections++
	}
}

func (s *stream) check() {
	resumed := false
	if s.conn.Resume != "" {
		from, known := s.checker.places[s.conn.Resume]
		s.at, s.excused, s.owed, resumed = from.position, from.since, !known, known
	}
	for i := range s.conn.Frames {
		s.frame = i
		f := &s.conn.Frames[i]
		switch f.Kind {
		case KindWelcome:
			for _, filter := range f.Filters {
				s.activate(filter, f, resumed)
			}
			s.learn(f, !resumed && len(f.Filters) > 0)
		case KindSubscribed:
			s.activate(f.Filter, f, resumed && slices.Contains(s.conn.Filters, f.Filter))
			s.learn(f, !resumed)
		case KindUnsubscribed:
			delete(s.filters, f.Filter)
			s.removed[f.Filter] = true
		case KindGap:
			s.gap(f)
		case KindNotification:
			s.notification(f)
		case KindStatus, KindBye:
		}
	}
	s.frame = len(s.conn.Frames)
	if s.conn.Complete {
		s.missing(len(s.checker.history.Commits) + 1)
	}
}

// activate takes an acknowledgement. Acknowledging twice changes nothing.
func (s *stream) activate(filter string, f *Frame, fromPosition bool) {
	if _, active := s.filters[filter]; active {
		return
	}
	again := s.removed[filter]
	delete(s.removed, filter)
	if fromPosition && !again {
		s.filters[filter] = start{}
		return
	}
	s.filters[filter] = start{since: f.At, whole: !again && s.conn.Resume == "" && slices.Contains(s.conn.Filters, filter)}
}

// learn notes where delivery started, for those who resume from there.
func (s *stream) learn(f *Frame, fresh bool) {
	if f.Cursor == "" || !fresh || s.acked {
		return
	}
	s.acked = true
	if _, known := s.checker.places[f.Cursor]; !known {
		s.checker.places[f.Cursor] = place{position: s.at, since: f.At}
	}
}

func (s *stream) gap(f *Frame) {
	s.checker.report.Gaps++
	s.owed = false
	if s.checker.history.NoGaps && f.Reason != undecodable {
		s.violation(NeedlessGap, "%s, after position %d", f.Reason, s.at)
	}
	s.excused = f.At
	if f.Cursor == "" {
		return
	}
	if _, known := s.checker.places[f.Cursor]; !known {
		s.checker.places[f.Cursor] = place{position: s.at, since: f.At}
	}
}

func (s *stream) notification(f *Frame) {
	s.checker.report.Delivered++
	positions := s.checker.positions[f.Body]
	if len(positions) == 0 {
		s.violation(Phantom, "%s was not committed", f.Body)
		return
	}
	if s.owed {
		s.violation(MissingGap, "%s comes without a gap after the foreign cursor %q", f.Body, s.conn.Resume)
		s.owed = false
	}
	s.asked(f)
	// Equal ones are told apart by their cursor, where that is known, else by their order.
	if known, ok := s.checker.places[f.Cursor]; ok && known.since.IsZero() && slices.Contains(positions, known.position) {
		positions = []int{known.position}
	}
	next := 0
	for _, p := range positions {
		if p > s.at {
			next = p
			break
		}
	}
	if next == 0 {
		kind := Disorder
		if last := positions[len(positions)-1]; s.seen[last] || last == s.at {
			kind = Duplicate
		}
		s.violation(kind, "%s, committed at %v, comes after position %d", f.Body, positions, s.at)
		return
	}
	s.missing(next)
	s.at, s.excused, s.seen[next] = next, time.Time{}, true
	for filter, from := range s.filters {
		if from.whole || s.checker.history.Commits[next-1].Asked.After(from.since) {
			s.filters[filter] = start{}
		}
	}
	if f.Cursor == "" {
		s.violation(BadCursor, "%s has no cursor", f.Body)
		return
	}
	// A position that was only bounded is exact from here on.
	if known, ok := s.checker.places[f.Cursor]; ok && known.since.IsZero() && known.position != next {
		s.violation(BadCursor, "%q names positions %d and %d", f.Cursor, known.position, next)
	}
	s.checker.places[f.Cursor] = place{position: next}
}

// asked checks that the client wanted it.
func (s *stream) asked(f *Frame) {
	for filter := range s.filters {
		if matches(filter, &f.Body) {
			return
		}
	}
	for filter := range s.removed {
		if matches(filter, &f.Body) {
			s.violation(AfterAck, "%s matches %q, which is unsubscribed", f.Body, filter)
			return
		}
	}
	s.violation(Unasked, "%s matches none of %d filters", f.Body, len(s.filters))
}

// missing checks that nothing should have come between the position and next.
func (s *stream) missing(next int) {
	if s.owed {
		return
	}
	first, last, count := 0, 0, 0
	for p := s.at + 1; p < next; p++ {
		c := &s.checker.history.Commits[p-1]
		if !s.wanted(c) {
			continue
		}
		if !c.Asked.After(s.excused) {
			s.checker.report.Excused++
			continue
		}
		if count++; count == 1 {
			first = p
		}
		last = p
	}
	if count > 0 {
		s.violation(Hole, "%d missing, from position %d (%s) to %d, after position %d and before %d",
			count, first, s.checker.history.Commits[first-1].Body, last, s.at, next)
	}
}

// wanted reports whether the promise covers c.
func (s *stream) wanted(c *Commit) bool {
	for filter, from := range s.filters {
		if c.Asked.After(from.since) && matches(filter, &c.Body) {
			return true
		}
	}
	return false
}

func (s *stream) violation(kind Kind, format string, args ...any) {
	s.checker.report.Violations = append(s.checker.report.Violations, Violation{
		Kind: kind, Client: s.name, Connection: s.number, Frame: s.frame, Detail: fmt.Sprintf(format, args...),
	})
}
