package http

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// takeOver begins the answer to a request for an event stream and returns what the
// stream writes to. HTTP/1's connection is taken from net/http, with which go its
// goroutine and its buffers; an answer over HTTP/2 stays there, and the handler must
// not return before it is released.
func takeOver(w http.ResponseWriter, r *http.Request) (conn, error) {
	rc := http.NewResponseController(w)
	if r.ProtoMajor > 1 {
		return &answer{w: w, rc: rc, left: r.Context().Done(), closed: make(chan struct{}), released: make(chan struct{})}, nil
	}
	// The body ends with the connection: in chunks, what all get would not be the same
	// bytes for all.
	w.Header().Set("Transfer-Encoding", "identity")
	w.WriteHeader(http.StatusOK)
	conn, _, err := rc.Hijack() // flushes the header
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// answer is an answer over HTTP/2 as a conn.
type answer struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	left     <-chan struct{} // closed when the client has gone
	close    sync.Once
	closed   chan struct{}
	released chan struct{} // closed when the stream needs the answer no more
}

// Read waits for the end: the request's body says nothing.
func (a *answer) Read([]byte) (int, error) {
	select {
	case <-a.left:
		return 0, io.EOF
	case <-a.closed:
		return 0, net.ErrClosed
	}
}

// Write takes the deadline back: HTTP/2 would reset the stream at that time, written to
// or not.
func (a *answer) Write(b []byte) (int, error) {
	n, err := a.w.Write(b)
	if err != nil {
		return n, err
	}
	if err := a.rc.Flush(); err != nil {
		return n, err
	}
	return n, a.rc.SetWriteDeadline(time.Time{})
}

func (a *answer) SetReadDeadline(time.Time) error { return nil }

func (a *answer) SetWriteDeadline(t time.Time) error { return a.rc.SetWriteDeadline(t) }

// Close ends Read; the answer ends when the handler returns.
func (a *answer) Close() error {
	a.close.Do(func() { close(a.closed) })
	return nil
}
