package wire_test

import (
	"errors"
	"testing"

	"attune/wire"
)

// A frame without a type must not pass for one that only newer servers know.
func TestDecodeServerMessage_NoType(t *testing.T) {
	for _, frame := range []string{
		`{"notification_type":"execution_created","entity_type":"execution","entity_id":42}`, `{}`, `{"type":""}`, `{"type":5}`, `{"TYPE":"pong"}`,
	} {
		m, err := wire.DecodeServerMessage([]byte(frame))
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Code != wire.CodeUnknownType {
			t.Errorf("%s: got %v and %v, want %s", frame, m, err, wire.CodeUnknownType)
		}
	}
	if m, err := wire.DecodeServerMessage([]byte(`{"type":"hologram"}`)); m != nil || err != nil {
		t.Errorf("a type of the future: got %v and %v", m, err)
	}
}

func TestDecodeClientMessage_NotUTF8(t *testing.T) {
	_, err := wire.DecodeClientMessage([]byte("{\"type\":\"ping\",\"x\":\"\xff\"}"))
	var refused *wire.Error
	if !errors.As(err, &refused) || refused.Code != wire.CodeInvalidJSON {
		t.Errorf("got %v, want %s", err, wire.CodeInvalidJSON)
	}
}
