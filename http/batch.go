package http

import (
	"sync"
	"time"

	"attune/wire"
)

// gatherSize is how many bytes of small frames are written at once. More than that
// hardly makes a write cheaper.
const gatherSize = 16 << 10

// batches lends out what a stream needs in a turn, so that a stream at rest needs
// nothing.
type batches struct{ pool sync.Pool }

func (p *batches) get() *batch {
	if b, ok := p.pool.Get().(*batch); ok {
		return b
	}
	return &batch{try: newTryWrite()}
}

func (p *batches) put(b *batch) {
	clear(b.frames)
	b.frames = b.frames[:0]
	p.pool.Put(b)
}

// batch is what is written in a turn.
type batch struct {
	frames []*wire.Frame
	buf    []byte
	try    *tryWrite
}

// write writes the frames to c, small ones as many at once as fit together.
func (b *batch) write(c *stream) error {
	if b.buf == nil {
		b.buf = make([]byte, 0, gatherSize)
	}
	buf := b.buf
	for _, frame := range b.frames {
		encoded := c.encode(frame)
		if len(buf)+len(encoded) > cap(buf) {
			if err := b.send(c, buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		if len(encoded) > cap(buf) {
			if err := b.send(c, encoded); err != nil {
				return err
			}
			continue
		}
		buf = append(buf, encoded...)
	}
	return b.send(c, buf)
}

// send writes to c, without a deadline as far as there is no need to wait.
func (b *batch) send(c *stream, out []byte) error {
	if c.raw == nil {
		return c.send(out)
	}
	n := b.try.write(c.raw, out)
	if n == len(out) {
		return nil
	}
	if err := c.send(out[n:]); err != nil {
		return err
	}
	return c.conn.SetWriteDeadline(time.Time{}) // it would end attempts, too
}
