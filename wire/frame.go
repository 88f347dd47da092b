package wire

import (
	"encoding/binary"
	"math"
	"sync"
)

// maxHeader is the longest header of a WebSocket frame that a server sends.
const maxHeader = 10

// Frame is a server message, encoded at most once per transport whatever the
// number of its receivers. What its methods return is shared: it must not be
// changed.
type Frame struct {
	// Message is what the frame carries.
	Message ServerMessage

	buf   []byte // room for a header, then the JSON
	begin int    // of the header in buf

	once sync.Once
	sse  []byte
}

// NewFrame encodes m. Of a notification it does not keep the payload's memory.
func NewFrame(m ServerMessage) *Frame {
	if n, ok := m.(Notification); ok {
		return NewNotificationFrame(n)
	}
	return newFrame(m, appendTagged(make([]byte, maxHeader), m.serverMessage(), m))
}

// NewNotificationFrame does as NewFrame. The Message's payload is the one in the frame's
// JSON: n's may be changed.
func NewNotificationFrame(n Notification) *Frame {
	size := len(n.Payload)
	buf, at := n.append(make([]byte, maxHeader, maxHeader+n.size()))
	n.Payload = buf[at : at+size : at+size]
	return newFrame(n, buf)
}

// newFrame puts the header in front of m's JSON, which is in buf after the room for it.
func newFrame(m ServerMessage, buf []byte) *Frame {
	return &Frame{Message: m, buf: buf, begin: putHeader(buf, len(buf)-maxHeader)}
}

// JSON returns the frame's content: one JSON object.
func (f *Frame) JSON() []byte { return f.buf[maxHeader:] }

// WebSocket returns the frame as WebSocket clients get it: an unfragmented text frame
// of RFC 6455, header and JSON.
func (f *Frame) WebSocket() []byte { return f.buf[f.begin:] }

// putHeader writes the header of an unmasked text frame right before the payload,
// which begins at maxHeader, and returns where it begins.
func putHeader(buf []byte, size int) (begin int) {
	const finText = 0x80 | 0x1
	switch {
	case size < 126:
		begin = maxHeader - 2
		buf[begin+1] = byte(size) //nolint:gosec // below 126
	case size <= math.MaxUint16:
		begin = maxHeader - 4
		buf[begin+1] = 126
		binary.BigEndian.PutUint16(buf[begin+2:], uint16(size))
	default:
		begin = 0
		buf[begin+1] = 127
		binary.BigEndian.PutUint64(buf[begin+2:], uint64(size))
	}
	buf[begin] = finText
	return begin
}

// SSE returns the frame as event streams get it: notifications as plain message
// events whose id is their cursor, everything else as an event of its own name.
func (f *Frame) SSE() []byte {
	f.once.Do(func() {
		var event, id string
		switch m := f.Message.(type) {
		case Notification:
			id = m.Cursor.String()
		case Welcome:
			event = m.serverMessage()
			if m.Cursor != nil {
				id = m.Cursor.String()
			}
		case Gap:
			event, id = m.serverMessage(), m.Cursor.String()
		default:
			event = m.serverMessage()
		}
		b := make([]byte, 0, len(f.buf)+len(event)+len(id)+32)
		if event != "" {
			b = append(append(append(b, "event: "...), event...), '\n')
		}
		if id != "" {
			b = append(append(append(b, "id: "...), id...), '\n')
		}
		b = append(append(b, "data: "...), f.JSON()...)
		f.sse = append(b, "\n\n"...)
	})
	return f.sse
}
