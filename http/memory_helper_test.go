package http_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a listener without a network: in a synctest bubble its clients and the
// server see the same time, which passes when all of them wait. Nothing is buffered
// on the way, so a client that does not read stops the server's very next write.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newMemory() *memory {
	m := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	m.close = sync.OnceFunc(func() { close(m.closed) })
	return m
}

// Accept implements net.Listener.
func (m *memory) Accept() (net.Conn, error) {
	select {
	case conn := <-m.conns:
		return conn, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (m *memory) Close() error {
	m.close()
	return nil
}

// Addr implements net.Listener.
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- theirs:
		return ours, nil
	case <-m.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs test with a server of its own in a bubble.
func inBubble(t *testing.T, test func(s *server), changes ...func(*setup)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		test(serve(t, newMemory(), changes...))
	})
}

// pass lets time pass in a bubble: everybody else has done what there was to do by
// then.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time: no test waits for it
	synctest.Wait()
}
