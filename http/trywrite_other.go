//go:build !unix

package http

import "syscall"

// tryWrite writes nothing at once where sockets are no files.
type tryWrite struct{}

func newTryWrite() *tryWrite { return nil }

func (*tryWrite) write(syscall.RawConn, []byte) int { return 0 }
