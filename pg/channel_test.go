package pg_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/pg"
	"attune/wire"
)

func received() time.Time { return time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC) }

func entity(t *testing.T, id string) wire.EntityID {
	t.Helper()
	e, err := wire.StringID(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDecode(t *testing.T) {
	user := func(id int64) *int64 { return &id }
	for name, test := range map[string]struct {
		payload string
		want    wire.Notification // less what is the same in all
		kept    string            // the payload, where it is not as sent
	}{
		"Integer":       {payload: `{"entity_type":"execution","entity_id":42}`, want: wire.Notification{EntityID: wire.IntID(42)}},
		"Least":         {payload: `{"entity_type":"execution","entity_id":-9223372036854775808}`, want: wire.Notification{EntityID: wire.IntID(-1 << 63)}},
		"Greatest":      {payload: `{"entity_type":"execution","entity_id":9223372036854775807}`, want: wire.Notification{EntityID: wire.IntID(1<<63 - 1)}},
		"String":        {payload: `{"entity_type":"execution","entity_id":"a-1_2.Z"}`, want: wire.Notification{EntityID: entity(t, "a-1_2.Z")}},
		"Longest":       {payload: `{"entity_type":"execution","entity_id":"` + strings.Repeat("x", 128) + `"}`, want: wire.Notification{EntityID: entity(t, strings.Repeat("x", 128))}},
		"Entity":        {payload: `{"entity_type":"execution","entity":42}`, want: wire.Notification{EntityID: wire.IntID(42)}},
		"EntityIDFirst": {payload: `{"entity_type":"execution","entity":1,"entity_id":2}`, want: wire.Notification{EntityID: wire.IntID(2)}},
		"User":          {payload: `{"entity_type":"execution","entity_id":1,"user_id":7}`, want: wire.Notification{EntityID: wire.IntID(1), UserID: user(7)}},
		"UserNull":      {payload: `{"entity_type":"execution","entity_id":1,"user_id":null}`, want: wire.Notification{EntityID: wire.IntID(1)}},
		"LastCounts":    {payload: `{"entity_type":"x y","entity_id":1,"entity_type":"execution","entity_id":2}`, want: wire.Notification{EntityID: wire.IntID(2)}},
		"OtherCase":     {payload: `{"entity_type":"execution","entity_id":1,"User_ID":"x","ENTITY_ID":null}`, want: wire.Notification{EntityID: wire.IntID(1)}},
		"EscapedName":   {payload: `{"entity\u005ftype":"execution","entity_id":1}`, want: wire.Notification{EntityID: wire.IntID(1)}},
		"TokensKept": {
			payload: `{"entity_type":"execution","entity_id":1,"a":"<>&\u003c\u2028 é","n":1.50e+2,"big":12345678901234567890123,"d":1,"d":2}`,
			want:    wire.Notification{EntityID: wire.IntID(1)},
		},
		"SpaceGoes": {
			payload: " {\t\"entity_type\" : \"execution\",\r\n \"entity_id\": 1, \"s\": \"a  b\" } ",
			want:    wire.Notification{EntityID: wire.IntID(1)},
			kept:    `{"entity_type":"execution","entity_id":1,"s":"a  b"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := pg.Decode("execution_created", []byte(test.payload), received())
			if err != nil {
				t.Fatal(err)
			}
			test.want.NotificationType, test.want.EntityType, test.want.Timestamp = "execution_created", "execution", received()
			test.want.Payload = json.RawMessage(test.payload)
			if test.kept != "" {
				test.want.Payload = json.RawMessage(test.kept)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(wire.EntityID{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecode_Skipped(t *testing.T) {
	deep := strings.Repeat("[", 4000) + strings.Repeat("]", 3999) // one is missing
	for payload, want := range map[string]pg.SkipReason{
		``:                                                    pg.SkipInvalidJSON,
		`hello`:                                               pg.SkipInvalidJSON,
		`{"entity_type":"e","entity_id":1`:                    pg.SkipInvalidJSON,
		`{"entity_type":"e","entity_id":1}{}`:                 pg.SkipInvalidJSON,
		`{"entity_type":"e","entity_id":01}`:                  pg.SkipInvalidJSON,
		`{"entity_type":"e","entity_id":+1}`:                  pg.SkipInvalidJSON,
		`{'entity_type':'e'}`:                                 pg.SkipInvalidJSON,
		"{\"entity_type\":\"\xff\"}":                          pg.SkipInvalidJSON,
		`{"a":` + deep + `}`:                                  pg.SkipInvalidJSON,
		strings.Repeat(`{"a":`, 20000):                        pg.SkipInvalidJSON,
		`null`:                                                pg.SkipNotObject,
		`42`:                                                  pg.SkipNotObject,
		`"text"`:                                              pg.SkipNotObject,
		`[{"entity_type":"e","entity_id":1}]`:                 pg.SkipNotObject,
		`{}`:                                                  pg.SkipEntityType,
		`{"entity_id":1}`:                                     pg.SkipEntityType,
		`{"entity_type":null,"entity_id":1}`:                  pg.SkipEntityType,
		`{"entity_type":7,"entity_id":1}`:                     pg.SkipEntityType,
		`{"entity_type":"","entity_id":1}`:                    pg.SkipEntityType,
		`{"entity_type":"a b","entity_id":1}`:                 pg.SkipEntityType,
		`{"entity_type":"a:b","entity_id":1}`:                 pg.SkipEntityType,
		`{"ENTITY_TYPE":"e","entity_id":1}`:                   pg.SkipEntityType,
		`{"entity_type":"e","Entity_ID":1}`:                   pg.SkipEntityID,
		`{"entity_type":"e"}`:                                 pg.SkipEntityID,
		`{"entity_type":"e","entity_id":null}`:                pg.SkipEntityID,
		`{"entity_type":"e","entity_id":null,"entity":1}`:     pg.SkipEntityID,
		`{"entity_type":"e","entity":null}`:                   pg.SkipEntityID,
		`{"entity_type":"e","entity_id":1.0}`:                 pg.SkipEntityID,
		`{"entity_type":"e","entity_id":1e3}`:                 pg.SkipEntityID,
		`{"entity_type":"e","entity_id":9223372036854775808}`: pg.SkipEntityID,
		`{"entity_type":"e","entity_id":true}`:                pg.SkipEntityID,
		`{"entity_type":"e","entity_id":[1]}`:                 pg.SkipEntityID,
		`{"entity_type":"e","entity_id":""}`:                  pg.SkipEntityID,
		`{"entity_type":"e","entity_id":"a/b"}`:               pg.SkipEntityID,
		`{"entity_type":"e","entity_id":1,"user_id":"7"}`:     pg.SkipUserID,
		`{"entity_type":"e","entity_id":1,"user_id":1.5}`:     pg.SkipUserID,
		`{"entity_type":"e","entity_id":1,"user_id":1e99}`:    pg.SkipUserID,
		`{"entity_type":"e","entity_id":1,"user_id":{}}`:      pg.SkipUserID,
		`{"entity_type":"` + strings.Repeat("x", 64) + `","entity_id":1}`:    pg.SkipEntityType,
		`{"entity_type":"e","entity_id":"` + strings.Repeat("x", 129) + `"}`: pg.SkipEntityID,
		`{"entity_type":"e","entity_id":1,"user_id":-9223372036854775809}`:   pg.SkipUserID,
	} {
		_, err := pg.Decode("execution_created", []byte(payload), received())
		skip, ok := errors.AsType[*pg.SkipError](err)
		if !ok {
			t.Errorf("%.80q: error %v, want a *SkipError", payload, err)
			continue
		}
		if skip.Reason != want {
			t.Errorf("%.80q: skipped for %s, want %s", payload, skip.Reason, want)
		}
		if want := "skip notification: " + string(want); err.Error() != want {
			t.Errorf("%.80q: error %q, want %q", payload, err, want)
		}
	}
}

// What Decode accepts encodes to JSON that decodes to the same notification, and the
// payload's tokens are those of the writer.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"entity_type":"execution","entity_id":42,"user_id":null,"status":"running"}`,
		`{"entity_type":"e","entity":"a-b","user_id":-1, "x": "<\u003c>&` + "\u2028" + `", "n":[1.0,-0,1E+9]}`,
		`{"entity_type":"e","entity_id":-0}`,
		`{"entity_type":"e","entity_id":1,"s":"\ud800"}`,
		`{"entity_type":"e","entity_id":"\u0041"}`,
		`[]`, `{`, "\xff",
	} {
		f.Add("execution_created", seed)
	}
	f.Fuzz(func(t *testing.T, channel, payload string) {
		n, err := pg.Decode(channel, []byte(payload), received())
		if err != nil {
			if _, ok := errors.AsType[*pg.SkipError](err); !ok {
				t.Fatalf("error %v, want a *SkipError", err)
			}
			return
		}
		if !json.Valid([]byte(payload)) {
			t.Fatalf("%q was accepted", payload)
		}
		if diff := cmp.Diff(tokens(payload), string(n.Payload)); diff != "" {
			t.Fatalf("tokens of the payload changed: %s", diff)
		}
		n.NotificationType = strings.ToValidUTF8(channel, "") // a channel's name is valid, or no LISTEN was
		n.Cursor = wire.Cursor{Epoch: "e", Offset: 1}
		frame := wire.NewFrame(n).JSON()
		if !json.Valid(frame) {
			t.Fatalf("encoded as %q", frame)
		}
		var back wire.Notification
		if err := json.Unmarshal(frame, &back); err != nil {
			t.Fatalf("decode %q: %v", frame, err)
		}
		if diff := cmp.Diff(n, back, cmp.AllowUnexported(wire.EntityID{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// tokens returns a JSON text without the white space between its tokens. It knows no
// more of JSON than where strings end, so it does not share Decode's mistakes.
func tokens(text string) string {
	var b strings.Builder
	inside, escaped := false, false
	for _, c := range []byte(text) {
		switch {
		case inside:
			if escaped {
				escaped = false
			} else if c == '\\' {
				escaped = true
			} else if c == '"' {
				inside = false
			}
		case c == '"':
			inside = true
		case c == ' ', c == '\t', c == '\r', c == '\n':
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func TestValidateChannels(t *testing.T) {
	if err := pg.ValidateChannels(append(pg.DefaultChannels(), strings.Repeat("x", 63), `odd "name"`)); err != nil {
		t.Error(err)
	}
	err := pg.ValidateChannels([]string{"fine", "", strings.Repeat("ä", 32), "nul\x00", "\xff"})
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`channel "": want 1 to 63 bytes`,
		`channel "` + strings.Repeat("ä", 32) + `": 64 bytes, want at most 63`,
		`channel "nul\x00": want UTF-8 without NUL`,
		`channel "\xff": want UTF-8 without NUL`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkDecode(b *testing.B) {
	payload := fmt.Sprintf(`{"entity_type": "execution", "entity_id": 42, "user_id": 7, "status": "running", "pad": %q}`, strings.Repeat("x", 270))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pg.Decode("execution_status_changed", []byte(payload), now); err != nil {
			b.Fatal(err)
		}
	}
}
