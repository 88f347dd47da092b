// Package wstest is the client's end of a WebSocket for tests that say what no library
// would: frames of RFC 6455 as bytes, lawful or not. It shares no code with the server
// and none with the client's library.
package wstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Opcodes of RFC 6455.
const (
	Continuation = 0x0
	Text         = 0x1
	Binary       = 0x2
	Close        = 0x8
	Ping         = 0x9
	Pong         = 0xA
)

// Fin is the bit of a frame's first byte that says that it is a message's last.
const Fin = 0x80

// maxPayload is more than any frame of ours has, in bytes.
const maxPayload = 16 << 20

// ErrFrame is what Read wraps when the server sends what no server of ours may.
var ErrFrame = errors.New("not a frame that attune sends")

// Frame returns a masked frame. Its first byte is Fin or not, reserved bits, and an opcode.
func Frame(first byte, payload []byte) []byte {
	return FrameOfLength(first, uint64(len(payload)), payload)
}

// FrameOfLength is Frame with a header that says that length bytes follow, however many do.
func FrameOfLength(first byte, length uint64, payload []byte) []byte {
	const masked = 0x80
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, masked|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), length)
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// Read reads a frame of the server's. It must be a whole message, neither masked nor
// compressed, of at most 16 MiB: for another the error is ErrFrame.
func Read(r io.Reader) (op byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1])
	switch length {
	case 126:
		_, err = io.ReadFull(r, head[2:4])
		length = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(r, head[2:])
		length = binary.BigEndian.Uint64(head[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != Fin || head[1]&0x80 != 0 || length > maxPayload {
		return 0, nil, fmt.Errorf("%w: it begins with % x", ErrFrame, head)
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(r, payload)
	return head[0] & 0xf, payload, err
}
