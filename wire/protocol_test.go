package wire_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/wire"
)

// The frames as the protocol's text shows them to authors of clients. Where it writes
// "…", any text may stand.

func TestProtocol_ServerFrames(t *testing.T) {
	cursor := wire.Cursor{Epoch: "k3f9", Offset: 1042}
	for doc, m := range map[string]wire.ServerMessage{
		`{"type":"notification","notification_type":"execution_status_changed","entity_type":"execution","entity_id":42,
 "user_id":null,"payload":{"id":42,"status":"running","...":"..."},"timestamp":"2026-03-03T19:42:41.123456Z",
 "cursor":"k3f9.1042"}`: wire.Notification{
			NotificationType: "execution_status_changed", EntityType: "execution", EntityID: wire.IntID(42),
			Payload:   json.RawMessage(`{"id":42,"status":"running","...":"..."}`),
			Timestamp: time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC), Cursor: cursor,
		},
		`{"type":"welcome","client_id":"client_2","message":"Connected to Attune Notifier","mode":"live"}`: wire.Welcome{
			ClientID: "client_2", Message: "Connected to Attune Notifier", Mode: wire.ModeLive,
		},
		`{"type":"subscribed","filter":"…","cursor":"…"}`: wire.Subscribed{Filter: "all", Cursor: cursor},
		`{"type":"unsubscribed","filter":"…"}`:            wire.Unsubscribed{Filter: "all"},
		`{"type":"gap","reason":"…","cursor":"…"}`:        wire.Gap{Reason: wire.GapCursorExpired, Cursor: cursor},
		`{"type":"status","mode":"live"}`:                 wire.SourceStatus{Mode: wire.ModeLive},
		`{"type":"pong"}`:                                 wire.Pong{},
		`{"type":"error","code":"…","message":"…"}`:       &wire.Error{Code: wire.CodeForbidden, Message: "not yours"},
		`{"type":"bye","reason":"…"}`:                     wire.Bye{Reason: wire.ByeSlowConsumer},
	} {
		encoded := wire.EncodeServerMessage(m)
		checkDocumented(t, doc, encoded)
		if diff := cmp.Diff(wire.NewFrame(m).JSON(), encoded); diff != "" {
			t.Errorf("%s: frame differs from the encoding:\n%s", doc, diff)
		}
		decoded, err := wire.DecodeServerMessage([]byte(doc))
		if err != nil {
			t.Errorf("decode %s: %v", doc, err)
		} else if got, want := fmt.Sprintf("%T", decoded), fmt.Sprintf("%T", m); got != want {
			t.Errorf("decode %s: got %s, want %s", doc, got, want)
		}
	}
}

func TestProtocol_ClientFrames(t *testing.T) {
	for doc, m := range map[string]wire.ClientMessage{
		`{"type":"subscribe","filter":"entity:execution:42"}`: wire.Subscribe{Filter: "entity:execution:42"},
		`{"type":"unsubscribe","filter":"…"}`:                 wire.Unsubscribe{Filter: "…"},
		`{"type":"ping"}`:                                     wire.Ping{},
	} {
		checkDocumented(t, doc, wire.EncodeClientMessage(m))
		decoded, err := wire.DecodeClientMessage([]byte(doc))
		if err != nil {
			t.Errorf("decode %s: %v", doc, err)
		}
		if diff := cmp.Diff(m, decoded); diff != "" {
			t.Errorf("decode %s (-want +got):\n%s", doc, diff)
		}
	}
}

// Servers that are newer than the client may send more: fields, and whole messages.
func TestDecodeServerMessage_Newer(t *testing.T) {
	got, err := wire.DecodeServerMessage([]byte(`{"later":[1,{"type":"x"}],"mode":"live","type":"status","more":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire.ServerMessage(wire.SourceStatus{Mode: wire.ModeLive}), got); diff != "" {
		t.Errorf("fields that are not known (-want +got):\n%s", diff)
	}
	if got, err := wire.DecodeServerMessage([]byte(`{"type":"weather","sun":true}`)); got != nil || err != nil {
		t.Errorf("a type that is not known gave %v and %v, want neither", got, err)
	}
}

func TestDecodeServerMessage_Refused(t *testing.T) {
	for _, frame := range []string{
		``, ` `, `null`, `42`, `"gap"`, `[]`, `{`, `{"type":"pong"}{"type":"pong"}`, `{"type":"pong",}`, "{\"type\":\"po\nng\"}",
		`{"type":"gap","reason":7}`, `{"type":"subscribed","filter":["all"]}`, `{"type":"welcome","filters":"all"}`,
		`{"type":"notification","entity_id":1.5}`, `{"type":"notification","entity_id":null}`,
		`{"type":"notification","entity_id":1,"user_id":"7"}`, `{"type":"notification","entity_id":1,"timestamp":"noon"}`,
	} {
		if m, err := wire.DecodeServerMessage([]byte(frame)); err == nil {
			t.Errorf("decode %s: got %v, want an error", frame, m)
		}
	}
}

// checkDocumented compares a frame with the one in the documentation: the same
// members, "type" first, and the same values but for "…".
func checkDocumented(t *testing.T, doc string, frame []byte) {
	t.Helper()
	if want, got := typeOf(t, []byte(doc)), typeOf(t, frame); got != want {
		t.Errorf("%s: got type %q", doc, got)
	}
	want, got := decodeAny(t, doc), decodeAny(t, string(frame))
	if w, g := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(w, g) {
		t.Errorf("%s: got members %q, want %q", doc, g, w)
	}
	for name, value := range want {
		if value == "…" {
			if s, ok := got[name].(string); !ok || s == "" {
				t.Errorf("%s: %q is %v, want a text", doc, name, got[name])
			}
			continue
		}
		if diff := cmp.Diff(value, got[name]); diff != "" {
			t.Errorf("%s: %q (-doc +got):\n%s", doc, name, diff)
		}
	}
}

func decodeAny(t *testing.T, s string) (members map[string]any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	if err := dec.Decode(&members); err != nil {
		t.Fatalf("decode %s: %v", s, err)
	}
	return members
}
