package pg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

const (
	// readSize is the most that is read at once, and about the most that is handed over
	// together, in bytes.
	readSize = 64 << 10
	// keepSize is how much memory for notifications is kept for the next ones, in bytes,
	// and keepMany how many. They are many while the connection is used for something else.
	keepSize = 1 << 20
	keepMany = 16 << 10
	// mostMessage is the longest message with a notification that a server could send, in
	// bytes: a payload is shorter than 8,000 in the database's encoding, which may take
	// four times as many in UTF-8. It must fit into what is read at once.
	mostMessage = 48 << 10
)

// notification is what a NOTIFY brought.
type notification struct {
	channel string
	payload []byte // of the tap, see there
}

// tap reads a connection for pgx, and keeps the notifications that come to itself: pgx
// would make three copies of each, and know them one by one. All else is pgx's.
//
// PostgreSQL's messages are a byte that names the type, the length of the rest in four,
// and the rest; a notification is the sender's process id and two strings that end with
// a zero.
type tap struct {
	r        io.Reader
	buf      []byte // what was read and not looked at is from from to to
	from, to int
	foreign  int  // how much more of a message is pgx's
	full     bool // the last read filled buf: there may be more
	broken   error

	heard []notification
	text  []byte // their payloads
	taken int    // of heard
	names map[string]string
}

func newTap(r io.Reader) *tap {
	return &tap{r: r, buf: make([]byte, readSize), names: make(map[string]string)}
}

// Read brings what is pgx's.
func (t *tap) Read(p []byte) (int, error) {
	for {
		if err := t.sort(); err != nil {
			return 0, err
		}
		if own := min(t.foreign, t.to-t.from); own > 0 {
			n := copy(p, t.buf[t.from:t.from+own])
			t.from += n
			t.foreign -= n
			return n, nil
		}
		if err := t.fill(); err != nil {
			return 0, err
		}
	}
}

// wait reads until there are notifications, or a message that is pgx's.
func (t *tap) wait() error {
	for {
		if err := t.sort(); err != nil || t.any() || t.foreign > 0 {
			return err
		}
		if err := t.fill(); err != nil {
			return err
		}
	}
}

// fill reads some more, behind what is less than a message or nothing.
func (t *tap) fill() error {
	t.to = copy(t.buf, t.buf[t.from:t.to])
	t.from = 0
	n, err := t.r.Read(t.buf[t.to:])
	t.to += n
	t.full = t.to == len(t.buf)
	switch {
	case n > 0 || err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF // as pgx says it
	}
	return t.fail(err)
}

// fail keeps why nothing more can be read, which pgx does not always say, and returns it.
func (t *tap) fail(why error) error {
	t.broken = why
	return why
}

// sort takes the notifications out of what was read, up to a message that is pgx's or
// not all there.
func (t *tap) sort() error {
	const head = 1 + 4
	for t.foreign == 0 && t.to-t.from >= head {
		size := 1 + int(binary.BigEndian.Uint32(t.buf[t.from+1:]))
		if t.buf[t.from] != 'A' {
			t.foreign = max(size, head) // if that is wrong, pgx says so
			return nil
		}
		if size < head || size > mostMessage {
			return t.fail(fmt.Errorf("a notification of %d bytes", size))
		}
		if t.to-t.from < size {
			return nil
		}
		if err := t.hear(t.buf[t.from+head : t.from+size]); err != nil {
			return t.fail(err)
		}
		t.from += size
	}
	return nil
}

// hear takes what a message with a notification says.
func (t *tap) hear(message []byte) error {
	const pid = 4
	if len(message) >= pid {
		channel, rest, ok := bytes.Cut(message[pid:], []byte{0})
		payload, _, ends := bytes.Cut(rest, []byte{0})
		if ok && ends {
			at := len(t.text)
			t.text = append(t.text, payload...)
			t.heard = append(t.heard, notification{t.name(channel), t.text[at:len(t.text):len(t.text)]})
			return nil
		}
	}
	return errors.New("a message that should be a notification and is none")
}

// name returns the name, of which there is one copy: it is one of those listened to.
func (t *tap) name(name []byte) string {
	known, ok := t.names[string(name)]
	if !ok {
		known = string(name)
		t.names[known] = known
	}
	return known
}

// any reports whether there are notifications to take.
func (t *tap) any() bool { return t.taken < len(t.heard) }

// take returns the next notifications, about readSize of them. They are good until forget
// is called.
func (t *tap) take() []notification {
	if !t.any() {
		return nil
	}
	first, size := t.taken, 0
	for t.any() && size < readSize {
		size += len(t.heard[t.taken].channel) + len(t.heard[t.taken].payload)
		t.taken++
	}
	return t.heard[first:t.taken:t.taken]
}

// forget gives back the memory of those that were taken, where they are many.
func (t *tap) forget() {
	many := cap(t.text) > keepSize || cap(t.heard) > keepMany
	switch {
	case many && 2*t.taken >= len(t.heard): // so what is copied is never more than what was taken
		// Those that are left have their payloads where they were.
		t.heard, t.text, t.taken = slices.Clone(t.heard[t.taken:]), nil, 0
	case !t.any():
		clear(t.heard)
		t.heard, t.text, t.taken = t.heard[:0], t.text[:0], 0
	}
}

// unread reports whether there is more than what was taken.
func (t *tap) unread() bool { return t.any() || t.full || t.foreign == 0 && t.from < t.to }
