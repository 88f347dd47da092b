//go:build unix

package http

import (
	"errors"
	"syscall"
)

// tryWrite writes to a socket what it takes at once. Nearly always that is all, and
// then no deadline has to be set, which would cost a fifth of the write.
type tryWrite struct {
	b       []byte
	n       int
	err     error
	attempt func(fd uintptr) bool
}

func newTryWrite() *tryWrite {
	t := &tryWrite{}
	t.attempt = func(fd uintptr) bool {
		for {
			// As write would, but for what that does for files: a lock on their position, a
			// look at who watches them.
			t.n, t.err = syscall.SendmsgN(int(fd), t.b, nil, nil, 0)
			if !errors.Is(t.err, syscall.EINTR) {
				return true // whatever came of it: do not wait
			}
		}
	}
	return t
}

// write returns how much of b was written; what went wrong, the next write will tell.
func (t *tryWrite) write(conn syscall.RawConn, b []byte) int {
	t.b, t.n = b, 0
	err := conn.Write(t.attempt)
	t.b = nil
	if err != nil || t.err != nil {
		return 0
	}
	return t.n
}
