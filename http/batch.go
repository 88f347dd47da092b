package http

import (
	"sync"

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
	return new(batch)
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
}

// write writes the frames to c, small ones as many at once as fit together.
func (b *batch) write(c *stream) error {
	if len(b.frames) == 1 {
		return c.send(c.encode(b.frames[0]))
	}
	if b.buf == nil {
		b.buf = make([]byte, 0, gatherSize)
	}
	buf := b.buf
	for _, frame := range b.frames {
		encoded := c.encode(frame)
		if len(buf)+len(encoded) > cap(buf) {
			if err := c.send(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		if len(encoded) > cap(buf) {
			if err := c.send(encoded); err != nil {
				return err
			}
			continue
		}
		buf = append(buf, encoded...)
	}
	return c.send(buf)
}
