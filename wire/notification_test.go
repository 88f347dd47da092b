package wire_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/wire"
)

func TestParseEntityID(t *testing.T) {
	x128 := strings.Repeat("x", 128)
	for value, want := range map[string]wire.EntityID{
		`42`: wire.IntID(42), `0`: wire.IntID(0), `-0`: wire.IntID(0), `-1`: wire.IntID(-1),
		`9223372036854775807`: wire.IntID(1<<63 - 1), `-9223372036854775808`: wire.IntID(-1 << 63),
		`"42"`: stringID(t, "42"), `"042"`: stringID(t, "042"), `"-0"`: stringID(t, "-0"), `"A.b_c-9"`: stringID(t, "A.b_c-9"),
		`"\u0061"`: stringID(t, "a"), `"` + x128 + `"`: stringID(t, x128), `"null"`: stringID(t, "null"),
		`"99999999999999999999"`: stringID(t, "99999999999999999999"),
	} {
		if got, err := wire.ParseEntityID([]byte(value)); err != nil || got != want {
			t.Errorf("ParseEntityID(%s) = %#v, %v; want %#v", value, got, err, want)
		}
	}
}

func TestParseEntityID_Refused(t *testing.T) {
	for _, value := range []string{
		``, `null`, `true`, `{}`, `[]`, `[42]`,
		`9223372036854775808`, `-9223372036854775809`, `1e400`, `99999999999999999999999999`,
		`1.5`, `42.0`, `4.2e1`, `42e0`, `42E1`, `1e3`, `+42`, `0x2a`, `4_2`, ` 42`, `42 `, "\u0664\u0662",
		`""`, `" "`, `"a b"`, `"a:b"`, `"a/b"`, `"ä"`, `"a\n"`, `"\u0000"`, `"` + strings.Repeat("x", 129) + `"`, `"a`, `"a"b`,
	} {
		if got, err := wire.ParseEntityID([]byte(value)); err == nil || got != (wire.EntityID{}) {
			t.Errorf("ParseEntityID(%s) = %#v, %v; want an error alone", value, got, err)
		}
	}
}

func TestEntityID(t *testing.T) {
	for _, tc := range []struct {
		id      wire.EntityID
		text    string
		json    string
		number  int64
		integer bool
	}{
		{wire.IntID(42), "42", `42`, 42, true},
		{wire.IntID(-1 << 63), "-9223372036854775808", `-9223372036854775808`, -1 << 63, true},
		{wire.IntID(1<<63 - 1), "9223372036854775807", `9223372036854775807`, 1<<63 - 1, true},
		{stringID(t, "42"), "42", `"42"`, 0, false},
		{stringID(t, "a.b"), "a.b", `"a.b"`, 0, false},
	} {
		if got := tc.id.String(); got != tc.text {
			t.Errorf("%s: String() = %q", tc.json, got)
		}
		if n, ok := tc.id.Int64(); n != tc.number || ok != tc.integer {
			t.Errorf("%s: Int64() = %d, %t", tc.json, n, ok)
		}
		b, err := json.Marshal(tc.id)
		if err != nil || string(b) != tc.json {
			t.Errorf("%s: encoded as %s, %v", tc.json, b, err)
		}
		var back wire.EntityID
		if err := json.Unmarshal(b, &back); err != nil || back != tc.id {
			t.Errorf("%s: decoded as %#v, %v", tc.json, back, err)
		}
	}
	if wire.IntID(42) == stringID(t, "42") {
		t.Error("a number and a text are one id: a client would see the wrong one")
	}
}

func TestParseInt(t *testing.T) {
	for value, want := range map[string]int64{`0`: 0, `-7`: -7, `9223372036854775807`: 1<<63 - 1, `-9223372036854775808`: -1 << 63} {
		if got, err := wire.ParseInt([]byte(value)); err != nil || got != want {
			t.Errorf("ParseInt(%s) = %d, %v", value, got, err)
		}
	}
	for _, value := range []string{``, `null`, `"7"`, `+7`, `7.0`, `7e0`, `9223372036854775808`, `-9223372036854775809`, ` 7`, `-`, `+`} {
		if got, err := wire.ParseInt([]byte(value)); err == nil {
			t.Errorf("ParseInt(%q) = %d", value, got)
		}
	}
}

// The payload travels as the writer wrote it.
func TestNotification_PayloadUnchanged(t *testing.T) {
	for _, payload := range []string{
		`{}`,
		`{"html":"<script>&amp;</script>"}`,
		`{"escaped":"\u003cb\u003e \u0026 \u00e9 \u2028 \/ \" \\ \b\f\n\r\t"}`,
		"{\"raw\":\"\u2028\u2029\u0085\u00a0\ufeff\U0001f600\x7f\"}",
		`{"surrogates":"\ud83d\ude00","lone":"\ud800"}`,
		`{"i":1.0,"f":1.50,"e":1e400,"E":1E-400,"z":-0,"big":123456789012345678901234567890,"d":0.1000000000000000055511151231257827}`,
		`{"twice":1,"twice":2,"Twice":3}`,
		`{"z":1,"a":2,"m":{"z":[],"a":{}}}`,
		`{"":"","type":"pong","entity_id":"other","cursor":"x.1"}`,
		`{"long":"` + strings.Repeat("é", 5000) + `"}`,
	} {
		n := wire.Notification{NotificationType: "c", EntityType: "e", EntityID: wire.IntID(1), Payload: json.RawMessage(payload)}
		frame := wire.EncodeServerMessage(n)
		if !strings.Contains(string(frame), `,"payload":`+payload+`,"timestamp":`) {
			t.Errorf("payload %s: changed in %s", payload, frame)
		}
		if tag := typeOf(t, frame); tag != "notification" {
			t.Errorf("payload %s: type %q", payload, tag)
		}
		m, err := wire.DecodeServerMessage(frame)
		if err != nil {
			t.Errorf("payload %s: decode: %v", payload, err)
			continue
		}
		if diff := cmp.Diff(wire.ServerMessage(n), m, compareWire()); diff != "" {
			t.Errorf("payload %s: decoded (-want +got):\n%s", payload, diff)
		}
	}
}

// PostgreSQL's channels are identifiers: any text is possible, quoted.
func TestNotification_AnyChannel(t *testing.T) {
	for _, channel := range []string{`a"b\c`, "a\nb", "ä", "\x01", "\x7f", "<&>", "\u2028", `","type":"pong`} {
		n := wire.Notification{
			NotificationType: channel, EntityType: "e", EntityID: wire.IntID(1), Payload: json.RawMessage(`{}`),
		}
		m, err := wire.DecodeServerMessage(wire.EncodeServerMessage(n))
		if err != nil {
			t.Errorf("channel %q: %v", channel, err)
			continue
		}
		if diff := cmp.Diff(wire.ServerMessage(n), m, compareWire()); diff != "" {
			t.Errorf("channel %q (-want +got):\n%s", channel, diff)
		}
	}
}

// Timestamps are UTC with six digits, whatever the server's zone and clock.
func TestNotification_Timestamp(t *testing.T) {
	at := time.Date(2026, 3, 3, 19, 42, 41, 999999999, time.FixedZone("", -5*3600-1800))
	frame := wire.EncodeServerMessage(wire.Notification{Timestamp: at, Payload: json.RawMessage(`{}`), EntityID: wire.IntID(1)})
	if want := `"timestamp":"2026-03-04T01:12:41.999999Z"`; !strings.Contains(string(frame), want) {
		t.Errorf("got %s, want %s", frame, want)
	}
}

// What a notification is encoded in is as large as it must be, and not much larger: the
// window keeps it.
func TestNotification_MarshalJSON_Size(t *testing.T) {
	most := wire.Notification{
		NotificationType: strings.Repeat("c", 63), EntityType: strings.Repeat("e", 63), EntityID: stringID(t, strings.Repeat("x", 128)),
		UserID: new(int64(-1 << 63)), Payload: json.RawMessage(`{"a":1}`), Timestamp: time.Now(),
		Cursor: wire.Cursor{Epoch: "epoch", Offset: 1<<64 - 1}, Coalesced: 1<<63 - 1,
	}
	least := wire.Notification{NotificationType: "c", EntityType: "e", EntityID: wire.IntID(1), Payload: json.RawMessage(`{}`)}
	for name, n := range map[string]wire.Notification{"Most": most, "Least": least, "Usual": benchmarkNotification()} {
		b, err := n.MarshalJSON()
		if room := cap(b) - len(b); err != nil || room > 64 {
			t.Errorf("%s: %d bytes in %d, %v", name, len(b), cap(b), err)
		}
		if grown := testing.AllocsPerRun(10, func() { _, _ = n.MarshalJSON() }); grown > 1 {
			t.Errorf("%s: %v allocations", name, grown)
		}
	}
}
