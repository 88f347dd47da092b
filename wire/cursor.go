package wire

import (
	"strconv"
	"strings"
)

// Cursor names a position in the stream of notifications: right after the
// notification with that offset. Clients treat it as opaque text of 1 to 128
// characters of [A-Za-z0-9._-]. The zero Cursor is no position.
type Cursor struct {
	// Epoch identifies one sequence of offsets: a process's memory, or a log.
	Epoch string
	// Offset grows within the epoch.
	Offset uint64
}

// ParseCursor parses what Cursor.String wrote. ok is false for any other text.
func ParseCursor(s string) (c Cursor, ok bool) {
	if !isName(s, maxCursor) {
		return Cursor{}, false
	}
	epoch, offset, found := strings.Cut(s, ".")
	if !found || epoch == "" {
		return Cursor{}, false
	}
	n, err := strconv.ParseUint(offset, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != offset {
		return Cursor{}, false
	}
	return Cursor{Epoch: epoch, Offset: n}, true
}

// String returns the cursor's text; "" for the zero Cursor.
func (c Cursor) String() string {
	var b [48]byte // most are shorter
	return string(c.append(b[:0]))
}

func (c Cursor) append(b []byte) []byte {
	if c.Epoch == "" {
		return b
	}
	b = append(append(b, c.Epoch...), '.')
	return strconv.AppendUint(b, c.Offset, 10)
}

// MarshalText encodes the cursor as its text.
func (c Cursor) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText decodes a cursor; a text that is none becomes the zero Cursor.
func (c *Cursor) UnmarshalText(b []byte) error {
	*c, _ = ParseCursor(string(b))
	return nil
}
