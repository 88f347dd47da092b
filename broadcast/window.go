package broadcast

import (
	"sort"

	"attune/wire"
)

// window retains the latest notifications, in the order of their offsets, within a
// number and a size.
type window struct {
	// since is the offset after which every notification is retained.
	since   uint64
	entries []entry // a ring, as long as it had to be so far
	first   int     // index of the oldest
	count   int
	bytes   int

	most      int // entries
	mostBytes int // 0: as many as they are
}

type entry struct {
	offset uint64
	frame  *wire.Frame
}

func newWindow(most, mostBytes int) window { return window{most: most, mostBytes: mostBytes} }

func (w *window) len() int { return w.count }

// add retains a notification and forgets the oldest as far as it must; one that is too
// large by itself is not retained.
func (w *window) add(offset uint64, frame *wire.Frame) {
	size := len(frame.JSON())
	for w.count > 0 && !w.room(size) {
		w.forget()
	}
	if !w.room(size) {
		w.since = offset
		return
	}
	if w.count == len(w.entries) {
		w.grow()
	}
	w.entries[(w.first+w.count)%len(w.entries)] = entry{offset: offset, frame: frame}
	w.count++
	w.bytes += size
}

// room reports whether a notification of that size fits in.
func (w *window) room(size int) bool {
	return w.count < w.most && (w.mostBytes == 0 || w.bytes+size <= w.mostBytes)
}

func (w *window) forget() {
	e := &w.entries[w.first]
	w.since = e.offset
	w.bytes -= len(e.frame.JSON())
	*e = entry{}
	w.first = (w.first + 1) % len(w.entries)
	w.count--
}

func (w *window) grow() {
	entries := make([]entry, min(w.most, max(64, 2*w.count)))
	for i := range w.count {
		entries[i] = w.at(i)
	}
	w.entries, w.first = entries, 0
}

// reset forgets everything up to and including offset.
func (w *window) reset(offset uint64) {
	clear(w.entries)
	w.first, w.count, w.bytes, w.since = 0, 0, 0, offset
}

// after calls yield with the notifications after offset, in order, until it says stop.
func (w *window) after(offset uint64, yield func(entry) (more bool)) {
	start := sort.Search(w.count, func(i int) bool { return w.at(i).offset > offset })
	for i := start; i < w.count; i++ {
		if !yield(w.at(i)) {
			return
		}
	}
}

// at returns the i-th oldest entry.
func (w *window) at(i int) entry { return w.entries[(w.first+i)%len(w.entries)] }
