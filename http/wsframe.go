package http

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Opcodes of RFC 6455, and the bits beside them.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	finBit       = 0x80
	reservedBits = 0x70
	opcodeBits   = 0x0f
	maskBit      = 0x80
)

const (
	// maxControl is the largest payload of a control frame.
	maxControl = 125
	// readAtOnce bounds by how much a message grows before more of it has arrived.
	readAtOnce = 4 << 10
)

// frameReader reads what a WebSocket client sends, strictly by RFC 6455, without
// extensions. It holds no more than the message that is on its way.
type frameReader struct {
	r *bufio.Reader

	// The message of which fragments have come.
	op      byte
	message []byte
	begun   bool
}

// next returns the next message (opText, opBinary) or control frame (opClose,
// opPing, opPong). The error is a *closeError where the peer is to be told; nothing
// can be read after it.
func (f *frameReader) next() (op byte, payload []byte, err error) {
	for {
		op, fin, length, mask, err := f.header()
		if err != nil {
			return 0, nil, err
		}
		if op >= opClose {
			payload, err = f.payload(nil, length, mask)
			return op, payload, err
		}
		if op != opContinuation {
			f.op, f.begun = op, true
		}
		if length > uint64(maxFrame-len(f.message)) { //nolint:gosec // never negative: checked for what there is
			return 0, nil, &closeError{code: websocket.StatusMessageTooBig, reason: "frames are at most 64 KiB"}
		}
		if f.message, err = f.payload(f.message, length, mask); err != nil {
			return 0, nil, err
		}
		if !fin {
			continue
		}
		payload = f.message
		f.message, f.begun = nil, false
		if f.op == opText && !utf8.Valid(payload) {
			return 0, nil, &closeError{code: websocket.StatusInvalidFramePayloadData, reason: "text is not UTF-8"}
		}
		return f.op, payload, nil
	}
}

// header reads a frame's header and checks all that can be known by it.
func (f *frameReader) header() (op byte, fin bool, length uint64, mask [4]byte, err error) {
	var b [8]byte
	if _, err = io.ReadFull(f.r, b[:2]); err != nil {
		return 0, false, 0, mask, err
	}
	op, fin, length = b[0]&opcodeBits, b[0]&finBit != 0, uint64(b[1]&^maskBit)
	switch {
	case b[0]&reservedBits != 0:
		err = violation("reserved bits, but no extension was agreed on")
	case b[1]&maskBit == 0:
		err = violation("a client's frames must be masked")
	case op > opPong || (op > opBinary && op < opClose):
		err = violation(fmt.Sprintf("unknown opcode %d", op))
	case op >= opClose && (!fin || length > maxControl):
		err = violation("a control frame is whole, and at most 125 bytes")
	case op == opContinuation && !f.begun:
		err = violation("nothing is there to continue")
	case (op == opText || op == opBinary) && f.begun:
		err = violation("a message within another")
	}
	if err != nil {
		return 0, false, 0, mask, err
	}
	switch length {
	case 126:
		_, err = io.ReadFull(f.r, b[:2])
		length = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		_, err = io.ReadFull(f.r, b[:8])
		if length = binary.BigEndian.Uint64(b[:]); err == nil && length > math.MaxInt64 {
			err = violation("a length of 64 bits")
		}
	}
	if err == nil {
		_, err = io.ReadFull(f.r, mask[:])
	}
	return op, fin, length, mask, err
}

// payload appends a payload to dst, unmasked. The room for it grows as it comes: the
// length is but a claim.
func (f *frameReader) payload(dst []byte, length uint64, mask [4]byte) ([]byte, error) {
	begin := len(dst)
	for missing := int(length); missing > 0; { //nolint:gosec // at most maxFrame
		n := min(missing, readAtOnce)
		dst = slices.Grow(dst, n)
		dst = dst[:len(dst)+n]
		if _, err := io.ReadFull(f.r, dst[len(dst)-n:]); err != nil {
			return nil, err
		}
		missing -= n
	}
	for i := range dst[begin:] {
		dst[begin+i] ^= mask[i%4]
	}
	return dst, nil
}

// violation is the error for a peer that breaks the protocol.
func violation(reason string) *closeError {
	return &closeError{code: websocket.StatusProtocolError, reason: "RFC 6455: " + reason}
}

// closeOf returns what a client's close frame says, as the answer to it, which
// repeats the code.
func closeOf(payload []byte) *closeError {
	if len(payload) == 0 {
		return &closeError{code: websocket.StatusNoStatusRcvd}
	}
	if len(payload) == 1 {
		return violation("a close code has two bytes")
	}
	code := websocket.StatusCode(binary.BigEndian.Uint16(payload))
	known := code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006
	if !known && (code < 3000 || code > 4999) {
		return violation(fmt.Sprintf("close code %d", code))
	}
	if !utf8.Valid(payload[2:]) {
		return &closeError{code: websocket.StatusInvalidFramePayloadData, reason: "text is not UTF-8"}
	}
	return &closeError{code: code}
}

// controlFrame returns a control frame of ours; payload has at most maxControl bytes.
func controlFrame(op byte, payload ...byte) []byte {
	return append([]byte{finBit | op, byte(len(payload))}, payload...) //nolint:gosec // at most maxControl
}

// frame is the close frame that tells the peer.
func (e *closeError) frame() []byte {
	if e.code == websocket.StatusNoStatusRcvd { // stands for a frame without a code
		return controlFrame(opClose)
	}
	payload := binary.BigEndian.AppendUint16(nil, uint16(e.code)) //nolint:gosec // codes have 16 bits
	return controlFrame(opClose, append(payload, e.reason...)...)
}
