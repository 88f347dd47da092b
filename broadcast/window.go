package broadcast

import (
	"sort"

	"attune/wire"
)

// window retains the latest notifications, in the order of their offsets.
type window struct {
	// since is the offset after which every notification is retained.
	since   uint64
	entries []entry // a ring once it is full
	first   int     // index of the oldest
	size    int
}

type entry struct {
	offset uint64
	frame  *wire.Frame
}

func newWindow(size int) window { return window{size: size} }

func (w *window) len() int { return len(w.entries) }

// add retains a notification and, when the window is full, forgets the oldest.
func (w *window) add(offset uint64, frame *wire.Frame) {
	e := entry{offset: offset, frame: frame}
	if w.size == 0 {
		w.since = offset
		return
	}
	if len(w.entries) < w.size {
		w.entries = append(w.entries, e)
		return
	}
	w.since = w.entries[w.first].offset
	w.entries[w.first] = e
	w.first = (w.first + 1) % w.size
}

// reset forgets everything up to and including offset.
func (w *window) reset(offset uint64) {
	clear(w.entries)
	w.entries, w.first, w.since = w.entries[:0], 0, offset
}

// after calls yield with the notifications after offset, in order, until it says stop.
func (w *window) after(offset uint64, yield func(entry) (more bool)) {
	start := sort.Search(len(w.entries), func(i int) bool { return w.at(i).offset > offset })
	for i := start; i < len(w.entries); i++ {
		if !yield(w.at(i)) {
			return
		}
	}
}

// at returns the i-th oldest entry.
func (w *window) at(i int) entry { return w.entries[(w.first+i)%len(w.entries)] }
