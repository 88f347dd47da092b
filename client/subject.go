package client

import (
	"context"
	"errors"

	"attune/wire"
)

// subject is what is waited for. A T is its row.
type subject[T any] struct {
	filter string
	// read reads the row. An error that is final (see final) ends the wait.
	read func(context.Context) (sight[T], error)
	// hear takes a notification that matches the filter.
	hear func(wire.Notification) (sight[T], verdict)
	// unmet is the error when the time is over and what is waited for has not come.
	unmet error
}

// sight is how things stand, as the row or a notification says.
type sight[T any] struct {
	value T
	over  bool // what is waited for has come
	// facts are what event tells; what was told already is not told again by a row.
	facts facts
	event Event // nil for nothing to tell
}

// facts are the members of a row, as text.
type facts map[string]string

// within reports whether all of f was told by other.
func (f facts) within(other facts) bool {
	for name, value := range f {
		if told, ok := other[name]; !ok || told != value {
			return false
		}
	}
	return true
}

// verdict is what a notification means for a wait.
type verdict uint8

const (
	goesOn  verdict = iota // it says how things stand: not as they should
	unclear                // something changed, and it does not say what: the row does
	ended                  // it is over; the row says how
	reached                // it is over, and this is the value
)

// final reports whether reading the row again would end the same way.
func final(err error) bool {
	_, judged := errors.AsType[*untilError](err)
	return judged || Permanent(err)
}
