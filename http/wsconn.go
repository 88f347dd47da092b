package http

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"

	"attune/wire"
)

// controlBuffer holds the largest control frame, header included.
const controlBuffer = 256

// frameConn is the connection under a WebSocket. The websocket package reads from it
// and writes control frames to it; what the subscriber gets goes past that package,
// as many frames at once as have gathered: a write costs far more than a frame.
type frameConn struct {
	net.Conn

	mu      sync.Mutex // held for whole frames, so that none is torn by another
	scratch [][]byte
}

// Write writes a control frame. The websocket package flushes each with one call.
func (c *frameConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// writeFrames writes frames, in chunks with a deadline each: a client that reads
// slowly is served, one that does not read at all is not waited for.
func (c *frameConn) writeFrames(frames []*wire.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(frames) > 0 {
		chunk, size := c.scratch[:0], 0
		for len(frames) > 0 && (size == 0 || size+len(frames[0].WebSocket()) <= writeChunk) {
			chunk = append(chunk, frames[0].WebSocket())
			size += len(frames[0].WebSocket())
			frames = frames[1:]
		}
		if err := c.SetWriteDeadline(time.Now().Add(timeoutOf(size))); err != nil {
			return err
		}
		c.scratch = chunk
		buffers := net.Buffers(chunk) // consumed by writing
		_, err := buffers.WriteTo(c.Conn)
		clear(chunk)
		if err != nil {
			return writeError(err)
		}
	}
	return nil
}

// Hijack implements http.Hijacker: the websocket package gets a frameConn.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &frameConn{Conn: conn}
	return h.conn, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(h.conn, controlBuffer)), nil
}
