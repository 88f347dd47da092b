package wire_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attune/wire"
)

// golden is a message and the files in testdata that pin its bytes: <name>.json,
// and for what event streams carry also <name>.sse. They are written by hand, after
// the protocol: there is no way to have the code write them.
type golden[M any] struct {
	name    string
	message M
	sse     bool
}

func serverGoldens(t *testing.T) []golden[wire.ServerMessage] {
	t.Helper()
	cursor := wire.Cursor{Epoch: "k3f9", Offset: 1042}
	return []golden[wire.ServerMessage]{
		{"notification", wire.Notification{
			NotificationType: "execution_status_changed",
			EntityType:       "execution",
			EntityID:         wire.IntID(42),
			Payload:          json.RawMessage(`{"id":42,"status":"running"}`),
			Timestamp:        time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC),
			Cursor:           cursor,
		}, true},
		{"notification.text_id", wire.Notification{
			NotificationType: `Änderung "a"`,
			EntityType:       "work-queue.item",
			EntityID:         stringID(t, "042"),
			UserID:           new(int64(-7)),
			Payload:          json.RawMessage(`{"b":1.0,"a":"<&>\u003c\u2028","a":1e400,"é":[]}`),
			// One o'clock in the new year, an hour east of UTC.
			Timestamp: time.Date(2027, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)),
			Cursor:    wire.Cursor{Epoch: "L-1_x", Offset: 1<<64 - 1},
		}, true},
		{"notification.coalesced", wire.Notification{
			NotificationType: "execution_status_changed",
			EntityType:       "execution",
			EntityID:         wire.IntID(42),
			Payload:          json.RawMessage(`{"id":42,"status":"running"}`),
			Timestamp:        time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC),
			Cursor:           cursor,
			Coalesced:        3,
		}, true},
		{"welcome.websocket", wire.Welcome{ClientID: "client_2", Message: "Connected to Attune Notifier", Mode: wire.ModeLive}, false},
		{"welcome.events", wire.Welcome{
			Mode: wire.ModeDegraded, Filters: []string{"all", "entity:execution:42"}, Cursor: &cursor,
		}, true},
		{"subscribed", wire.Subscribed{Filter: "entity:execution:42", Cursor: cursor}, false},
		{"unsubscribed", wire.Unsubscribed{Filter: "entity:execution:42"}, false},
		{"gap", wire.Gap{Reason: wire.GapListenerReconnected, Cursor: wire.Cursor{Epoch: "k3f9", Offset: 1043}}, true},
		{"status.live", wire.SourceStatus{Mode: wire.ModeLive}, true},
		{"status.degraded", wire.SourceStatus{Mode: wire.ModeDegraded}, true},
		{"pong", wire.Pong{}, false},
		{"authenticated", wire.Authenticated{UserID: 7, ExpiresAt: time.Date(2026, 3, 3, 19, 42, 41, 0, time.UTC)}, false},
		{"bye", wire.Bye{Reason: wire.ByeServerShutdown}, true},
		{"error", &wire.Error{
			Code: wire.CodeInvalidFilter,
			Message: `filter "user:007": want one of all, entity_type:<type>, entity:<type>:<id>, ` +
				`user:<id>, notification_type:<type>`,
		}, false},
	}
}

func clientGoldens() []golden[wire.ClientMessage] {
	return []golden[wire.ClientMessage]{
		{"subscribe", wire.Subscribe{Filter: "entity:execution:42"}, false},
		{"subscribe.cursor", wire.Subscribe{Filter: "all", Cursor: new("k3f9.1042")}, false},
		{"unsubscribe", wire.Unsubscribe{Filter: "entity:execution:42"}, false},
		{"ping", wire.Ping{}, false},
		{"auth", wire.Auth{Token: "eyJ.eyJ.c2ln"}, false},
	}
}

func TestServerMessage_Golden(t *testing.T) {
	for _, g := range serverGoldens(t) {
		t.Run(g.name, func(t *testing.T) {
			want := readGolden(t, g.name+".json")
			if diff := cmp.Diff(want, string(wire.EncodeServerMessage(g.message))); diff != "" {
				t.Errorf("encoded (-golden +got):\n%s", diff)
			}
			frame := wire.NewFrame(g.message)
			if diff := cmp.Diff(want, string(frame.JSON())); diff != "" {
				t.Errorf("frame (-golden +got):\n%s", diff)
			}
			if g.sse {
				if diff := cmp.Diff(readGolden(t, g.name+".sse"), string(frame.SSE())); diff != "" {
					t.Errorf("event (-golden +got):\n%s", diff)
				}
			}
			got, err := wire.DecodeServerMessage([]byte(want))
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if diff := cmp.Diff(g.message, got, compareWire()); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClientMessage_Golden(t *testing.T) {
	for _, g := range clientGoldens() {
		t.Run(g.name, func(t *testing.T) {
			want := readGolden(t, g.name+".json")
			if diff := cmp.Diff(want, string(wire.EncodeClientMessage(g.message))); diff != "" {
				t.Errorf("encoded (-golden +got):\n%s", diff)
			}
			got, err := wire.DecodeClientMessage([]byte(want))
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if diff := cmp.Diff(g.message, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

// No message without a golden file, and no golden file without a message.
func TestGolden_Complete(t *testing.T) {
	files := make(map[string]bool) // which are read by a test
	kinds := make(map[string]bool) // "server welcome"
	events := make(map[string]bool)
	for _, g := range serverGoldens(t) {
		files[g.name+".json"] = true
		kind := "server " + typeOf(t, wire.EncodeServerMessage(g.message))
		kinds[kind] = true
		if g.sse {
			files[g.name+".sse"], events[kind] = true, true
		}
	}
	for _, g := range clientGoldens() {
		files[g.name+".json"] = true
		kinds["client "+typeOf(t, wire.EncodeClientMessage(g.message))] = true
	}
	want := messageKinds(t)
	if len(want) < 12 {
		t.Fatalf("found only the messages %q in the source", want)
	}
	for _, kind := range want {
		if !kinds[kind] {
			t.Errorf("the message %q has no golden frame", kind)
		}
	}
	for _, name := range []string{"notification", "welcome", "gap", "status", "bye"} {
		if !events["server "+name] {
			t.Errorf("the event %q has no golden .sse file", name)
		}
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() && !files[entry.Name()] {
			t.Errorf("testdata/%s belongs to no message", entry.Name())
		}
	}
}

func readGolden(t *testing.T, name string) string {
	t.Helper()
	b, err := fs.ReadFile(os.DirFS("testdata"), name)
	if err != nil {
		t.Fatalf("every message needs a golden file: %v", err)
	}
	return string(b)
}

// typeOf returns the value of "type", which must be the first member of the frame.
func typeOf(t *testing.T, frame []byte) string {
	t.Helper()
	tag, err := firstMember(frame)
	if err != nil {
		t.Fatalf("frame %s: %v", frame, err)
	}
	return tag
}

func firstMember(frame []byte) (string, error) {
	dec := json.NewDecoder(strings.NewReader(string(frame)))
	var tokens [3]json.Token
	for i := range tokens {
		var err error
		if tokens[i], err = dec.Token(); err != nil {
			return "", err
		}
	}
	tag, ok := tokens[2].(string)
	if tokens[0] != json.Delim('{') || tokens[1] != "type" || !ok {
		return "", fmt.Errorf("the first tokens are %v, want an object that starts with its type", tokens)
	}
	return tag, nil
}

func stringID(tb testing.TB, s string) wire.EntityID {
	tb.Helper()
	id, err := wire.StringID(s)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// compareWire lets cmp look at the wire types whose fields are not exported.
func compareWire() cmp.Option {
	return cmpopts.EquateComparable(wire.EntityID{}, wire.Filter{})
}
