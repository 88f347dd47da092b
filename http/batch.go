package http

import (
	"sync"

	"attune/wire"
)

const (
	// quickWrite is how many bytes of small frames a quick turn writes at once, which is
	// what TCP sends at once. There are as few such buffers as take quick turns at a time.
	quickWrite = 64 << 10
	// quickSize is how many bytes of messages are delivered in a quick turn, some more or
	// less: in one write, then, framing included.
	quickSize = quickWrite / 8 * 7
	// patientWrite is the same for a turn that waits until its client reads. Many can
	// wait, each with its buffer.
	patientWrite = 16 << 10
)

// batches lends out what a stream needs in a turn, so that a stream at rest needs
// nothing.
type batches struct {
	most int // bytes of small frames that are written at once
	pool sync.Pool
}

func (p *batches) get() *batch {
	if b, ok := p.pool.Get().(*batch); ok {
		return b
	}
	return &batch{most: p.most, try: newTryWrite()}
}

func (p *batches) put(b *batch) {
	clear(b.frames)
	b.frames, b.done = b.frames[:0], 0
	p.pool.Put(b)
}

// batch is what is written in a turn.
type batch struct {
	most   int // see batches
	frames []*wire.Frame
	done   int // of the frames
	buf    []byte
	try    *tryWrite
}

// more reports whether there are frames that next has not returned.
func (b *batch) more() bool { return b.done < len(b.frames) }

// next encodes the next frames, small ones as many as fit together. It is valid until
// the next call.
func (b *batch) next(c *stream) []byte {
	first := c.encode(b.frames[b.done])
	b.done++
	if !b.more() || len(first) >= b.most {
		return first
	}
	if b.buf == nil {
		b.buf = make([]byte, 0, b.most)
	}
	buf := append(b.buf, first...)
	for b.more() {
		encoded := c.encode(b.frames[b.done])
		if len(buf)+len(encoded) > b.most {
			break
		}
		buf = append(buf, encoded...)
		b.done++
	}
	return buf
}

// send writes to c, without a deadline as far as there is no need to wait.
func (b *batch) send(c *stream, out []byte) error {
	if c.raw != nil {
		out = out[b.try.write(c.raw, out):]
	}
	if len(out) == 0 {
		return nil
	}
	return c.send(out)
}
