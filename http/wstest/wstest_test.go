package wstest_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"go.uber.org/goleak"

	"attune/http/wstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRead(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("x"), 70_000)
	for name, tt := range map[string]struct {
		sent []byte
		op   byte
		text []byte
		err  error
	}{
		"Text":      {[]byte("\x81\x02hi and more"), wstest.Text, []byte("hi"), nil},
		"Close":     {[]byte("\x88\x00"), wstest.Close, []byte{}, nil},
		"16BitLong": {append([]byte{0x81, 126, 1, 0}, long...), wstest.Text, long[:256], nil},
		"64BitLong": {append([]byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}, long...), wstest.Text, long[:65536], nil},
		"Ended":     {nil, 0, nil, io.EOF},
		"Cut":       {[]byte("\x81\x05hi"), wstest.Text, []byte("hi\x00\x00\x00"), io.ErrUnexpectedEOF},
		"Fragment":  {[]byte("\x01\x02hi"), 0, nil, wstest.ErrFrame},
		"Reserved":  {[]byte("\xc1\x02hi"), 0, nil, wstest.ErrFrame},
		"Masked":    {wstest.Frame(0x81, []byte("hi")), 0, nil, wstest.ErrFrame},
		"TooLong":   {[]byte{0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, 0, nil, wstest.ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op, payload, err := wstest.Read(bytes.NewReader(tt.sent))
			if op != tt.op || !bytes.Equal(payload, tt.text) || !errors.Is(err, tt.err) {
				t.Errorf("got opcode %#x, %.20q (%d bytes), %v; want %#x, %.20q (%d bytes), %v", op, payload, len(payload), err, tt.op, tt.text, len(tt.text), tt.err)
			}
		})
	}
}
