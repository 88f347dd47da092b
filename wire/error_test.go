package wire_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"attune/wire"
)

func TestError_Wrapping(t *testing.T) {
	cause := fmt.Errorf("read row: %w", io.ErrUnexpectedEOF)
	err := fmt.Errorf("show execution: %w", &wire.Error{Code: wire.CodeInternal, Message: "the database did not answer", Err: cause})
	if want := "show execution: internal: the database did not answer: read row: unexpected EOF"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is not found")
	}
	var coded *wire.Error
	if !errors.As(err, &coded) || coded.Code != wire.CodeInternal {
		t.Errorf("the code is not found: %v", coded)
	}
	bare := &wire.Error{Code: wire.CodeNotFound, Message: "no execution 7"}
	if want := "not_found: no execution 7"; bare.Error() != want || bare.Unwrap() != nil {
		t.Errorf("got %q and %v, want %q and no cause", bare, bare.Unwrap(), want)
	}
}

// The cause may hold what is no client's business.
func TestError_CauseNotSent(t *testing.T) {
	frame := wire.EncodeServerMessage(&wire.Error{
		Code: wire.CodeInternal, Message: "try again", Err: errors.New("password authentication failed for user root"),
	})
	if want := `{"type":"error","code":"internal","message":"try again"}`; string(frame) != want {
		t.Errorf("got %s, want %s", frame, want)
	}
	if strings.Contains(string(wire.NewFrame(&wire.Error{Err: io.EOF}).SSE()), "EOF") {
		t.Error("the cause is in the event")
	}
}
