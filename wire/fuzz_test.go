package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attune/wire"
)

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{
		"all", "entity_type:execution", "entity:execution:42", "user:-7", "notification_type:event_created", "user:007",
		"entity:a:b:c", "ALL", "all\n", "user:9223372036854775808", "entity_type:ä",
	} {
		f.Add(s)
	}
	const name, id, number = `[A-Za-z0-9_.-]{1,63}`, `[A-Za-z0-9_.-]{1,128}`, `(0|-?[1-9][0-9]{0,18})`
	accepted := regexp.MustCompile(`\A(all|entity_type:` + name + `|notification_type:` + name + `|entity:` + name + `:` + id + `|user:` + number + `)\z`)
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := wire.ParseFilter(s)
		if err != nil {
			var refused *wire.Error
			if !errors.As(err, &refused) || refused.Code != wire.CodeInvalidFilter || filter != (wire.Filter{}) {
				t.Fatalf("%q: got %v and %v", s, filter, err)
			}
			if accepted.MatchString(s) && !strings.HasPrefix(s, "user:") { // a user's id may be beyond int64
				t.Fatalf("%q: refused: %v", s, err)
			}
			return
		}
		if !accepted.MatchString(s) {
			t.Fatalf("%q: accepted", s)
		}
		if filter.String() != s {
			t.Fatalf("%q: String() = %q", s, filter)
		}
		if again, err := wire.ParseFilter(filter.String()); err != nil || again != filter {
			t.Fatalf("%q: parsed again: %v, %v", s, again, err)
		}
		if _, isUser := filter.User(); isUser != strings.HasPrefix(s, "user:") {
			t.Fatalf("%q: names a user: %t", s, isUser)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"k3f9.1042", "k.0", "L.18446744073709551615", "k.18446744073709551616", "k.01", ".1", "k.", "k.1.2", ""} {
		f.Add(s)
	}
	accepted := regexp.MustCompile(`\A[A-Za-z0-9_-]+\.(0|[1-9][0-9]{0,19})\z`)
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := wire.ParseCursor(s)
		if !ok {
			if c != (wire.Cursor{}) {
				t.Fatalf("%q: refused, yet %v", s, c)
			}
			return
		}
		if !accepted.MatchString(s) || len(s) > 128 {
			t.Fatalf("%q: accepted", s)
		}
		if c.String() != s {
			t.Fatalf("%q: String() = %q", s, c)
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back wire.Cursor
		if err := json.Unmarshal(b, &back); err != nil || back != c {
			t.Fatalf("%q: through JSON: %v, %v", s, back, err)
		}
	})
}

func FuzzDecodeClientMessage(f *testing.F) {
	for _, g := range clientGoldens() {
		f.Add(wire.EncodeClientMessage(g.message))
	}
	for _, s := range []string{``, `null`, `[]`, `{}`, `{"type":7}`, `{"type":"subscribe","filter":null}`, `{"type":"subscribe","filter":"all","cursor":1.5}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.DecodeClientMessage(b)
		if err != nil {
			var refused *wire.Error
			if !errors.As(err, &refused) || m != nil {
				t.Fatalf("%q: got %v and %v", b, m, err)
			}
			switch refused.Code { //nolint:exhaustive // these are the promise
			case wire.CodeInvalidJSON, wire.CodeUnknownType, wire.CodeInvalidFilter, wire.CodeUnauthenticated:
			default:
				t.Fatalf("%q: code %q", b, refused.Code)
			}
			return
		}
		// What was understood says the same when it is sent again.
		again, err := wire.DecodeClientMessage(wire.EncodeClientMessage(m))
		if err != nil {
			t.Fatalf("%q: decoded again: %v", b, err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatalf("%q: decoded again (-first +second):\n%s", b, diff)
		}
	})
}

func FuzzDecodeServerMessage(f *testing.F) {
	for _, name := range []string{
		`{"type":"welcome","mode":"live"}`, `{"type":"subscribed","filter":"all","cursor":"k.1"}`, `{"type":"pong"}`,
		`{"type":"unsubscribed","filter":"all"}`, `{"type":"gap","reason":"cursor_expired","cursor":"k.1"}`, `{"type":"bye","reason":"x"}`,
		`{"type":"status","mode":"degraded"}`, `{"type":"error","code":"forbidden","message":"<no>"}`, `{"type":"later"}`, `null`,
		`{"type":"notification","notification_type":"c","entity_type":"e","entity_id":"x","user_id":7,"payload":{"a":1e400},` +
			`"timestamp":"2026-03-03T19:42:41.123456Z","cursor":"k.1"}`,
	} {
		f.Add([]byte(name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.DecodeServerMessage(b)
		if err != nil || m == nil {
			return
		}
		if n, ok := m.(wire.Notification); ok {
			// A server never leaves these out; without them there is nothing to send.
			if n.Payload == nil || n.EntityID == (wire.EntityID{}) {
				return
			}
			if y := n.Timestamp.UTC().Year(); y < 0 || y > 9999 {
				return // time.Time accepts an offset that leaves RFC 3339's years
			}
		}
		encoded := wire.EncodeServerMessage(m)
		tag, err := firstMember(encoded)
		if err != nil {
			t.Fatalf("%q: sent again as %s: %v", b, encoded, err)
		}
		again, err := wire.DecodeServerMessage(encoded)
		if err != nil {
			t.Fatalf("%q: %s decoded again: %v", b, tag, err)
		}
		if second := wire.EncodeServerMessage(again); !bytes.Equal(encoded, second) {
			t.Fatalf("%q: sent again as %s, then as %s", b, encoded, second)
		}
	})
}

// Whatever a writer notifies, the event stream carries exactly one event with it.
func FuzzNotificationSSE(f *testing.F) {
	f.Add("execution_status_changed", "execution", "42", true, int64(7), []byte(`{"id":42,"status":"running"}`), int64(1772566961123456), "k3f9", uint64(1042))
	f.Add("a\nb\r\n\r\ndata: x", "e", "x.y", false, int64(0), []byte("{\"a\" : \"\u2028\u0085\",\r\n\r\n\"b\":\t1e400}"), int64(0), "L", uint64(0))
	f.Add("c", "e", "1", false, int64(0), []byte(`{"a\\"":"\\\\","\\u0061":[{"}":"]"},[]],"n":-1.5e3,"":{"x":{"y":[1,{"z":null}]}},"t":true}`), int64(0), "L", uint64(1))
	f.Add("\u0000", "e", "-1", true, int64(-1), []byte(`{"":"\r\n\r\nid: x.1\n\n","a":{},"a":[]}`), int64(1), "k", uint64(1<<64-1))
	f.Fuzz(func(t *testing.T, channel, entityType, id string, hasUser bool, user int64, payload []byte, micros int64, epoch string, offset uint64) {
		var compact bytes.Buffer
		members, err := wire.Object(payload)
		if err != nil || members == nil || !utf8.Valid(payload) || json.Compact(&compact, payload) != nil {
			t.Skip("no JSON object, or nothing that PostgreSQL sends: the listener passes over it")
		}
		walked := make(map[string]json.RawMessage)
		for name, value := range wire.Members(compact.Bytes()) {
			walked[string(name)] = value
		}
		whole, err := wire.Object(compact.Bytes())
		if diff := cmp.Diff(whole, walked, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("members of %s, %v (-object +walked):\n%s", compact.Bytes(), err, diff)
		}
		cursor, ok := wire.ParseCursor(wire.Cursor{Epoch: epoch, Offset: offset}.String())
		if !ok || !wire.IsTypeName(entityType) || !utf8.ValidString(channel) {
			t.Skip("not what a listener hands on")
		}
		n := wire.Notification{NotificationType: channel, EntityType: entityType, Payload: compact.Bytes(), Cursor: cursor}
		if n.EntityID, err = wire.StringID(id); err != nil {
			n.EntityID = wire.IntID(user)
		}
		if hasUser {
			n.UserID = &user
		}
		// Years 0 to 9999.
		n.Timestamp = time.UnixMicro(micros % 60_000_000_000_000_000).UTC()

		frame := wire.NewFrame(n)
		events, err := parseSSE(frame.SSE())
		if err != nil {
			t.Fatalf("%q: %v", frame.SSE(), err)
		}
		if len(events) != 1 {
			t.Fatalf("%q: %d events, want one", frame.SSE(), len(events))
		}
		want := event{id: cursor.String(), hasID: true, data: string(frame.JSON())}
		if events[0] != want {
			t.Fatalf("got event %+v, want %+v", events[0], want)
		}
		m, err := wire.DecodeServerMessage([]byte(events[0].data))
		if err != nil {
			t.Fatalf("decode %s: %v", events[0].data, err)
		}
		if diff := cmp.Diff(wire.ServerMessage(n), m, compareWire()); diff != "" {
			t.Fatalf("decoded (-sent +got):\n%s", diff)
		}
	})
}
