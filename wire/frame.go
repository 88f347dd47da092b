package wire

import (
	"sync"
)

// Frame is a server message, encoded at most once per transport whatever the
// number of its receivers. What its methods return is shared: it must not be
// changed.
type Frame struct {
	// Message is what the frame carries.
	Message ServerMessage

	json []byte
	once sync.Once
	sse  []byte
}

// NewFrame encodes m.
func NewFrame(m ServerMessage) *Frame { return &Frame{Message: m, json: EncodeServerMessage(m)} }

// JSON returns the frame as WebSocket clients get it: one JSON object.
func (f *Frame) JSON() []byte { return f.json }

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
		b := make([]byte, 0, len(f.json)+len(event)+len(id)+32)
		if event != "" {
			b = append(append(append(b, "event: "...), event...), '\n')
		}
		if id != "" {
			b = append(append(append(b, "id: "...), id...), '\n')
		}
		b = append(append(b, "data: "...), f.json...)
		f.sse = append(b, "\n\n"...)
	})
	return f.sse
}
