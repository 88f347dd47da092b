package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/wire"
)

func TestDecodeClientMessage(t *testing.T) {
	for frame, want := range map[string]wire.ClientMessage{
		`{"type":"ping"}`:                                       wire.Ping{},
		" \t\r\n{ \"type\" : \"ping\" } \n":                     wire.Ping{},
		`{"type":"ping","filter":7,"cursor":{}}`:                wire.Ping{},
		`{"filter":"all","type":"subscribe"}`:                   wire.Subscribe{Filter: "all"},
		`{"type":"subscribe","filter":"a\u006cl"}`:              wire.Subscribe{Filter: "all"},
		`{"\u0074ype":"subscribe","filter":"all"}`:              wire.Subscribe{Filter: "all"},
		`{"type":"subscribe","filter":"all","later":[{}]}`:      wire.Subscribe{Filter: "all"},
		`{"type":"subscribe","filter":""}`:                      wire.Subscribe{},
		`{"type":"subscribe","filter":"nonsense"}`:              wire.Subscribe{Filter: "nonsense"},
		`{"type":"ping","type":"unsubscribe","filter":"all"}`:   wire.Unsubscribe{Filter: "all"},
		`{"type":"unsubscribe","filter":"all","cursor":"k.1"}`:  wire.Unsubscribe{Filter: "all"},
		`{"type":"subscribe","filter":"all","cursor":"k.1"}`:    wire.Subscribe{Filter: "all", Cursor: new("k.1")},
		`{"type":"subscribe","filter":"all","cursor":null}`:     wire.Subscribe{Filter: "all"},
		`{"type":"subscribe","filter":"all","cursor":""}`:       wire.Subscribe{Filter: "all", Cursor: new("")},
		`{"type":"subscribe","filter":"all","cursor":"<bad>"}`:  wire.Subscribe{Filter: "all", Cursor: new("<bad>")},
		`{"type":"subscribe","Type":"ping","filter":"all"}`:     wire.Subscribe{Filter: "all"},
		`{"type":"subscribe","filter":"all","FILTER":"user:1"}`: wire.Subscribe{Filter: "all"},
	} {
		got, err := wire.DecodeClientMessage([]byte(frame))
		if err != nil {
			t.Errorf("decode %s: %v", frame, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("decode %s (-want +got):\n%s", frame, diff)
		}
	}
}

// A cursor that is no text is a bad cursor, answered by a gap and not by an error: it
// is there, and nothing accepts it.
func TestDecodeClientMessage_CursorNoText(t *testing.T) {
	for _, cursor := range []string{`5`, `1.5`, `-1.5`, `1e3`, `true`, `false`, `{}`, `{"epoch":"k"}`, `[]`, `["k.1"]`} {
		m, err := wire.DecodeClientMessage([]byte(`{"type":"subscribe","filter":"all","cursor":` + cursor + `}`))
		if err != nil {
			t.Errorf("cursor %s: %v", cursor, err)
			continue
		}
		s, ok := m.(wire.Subscribe)
		if !ok || s.Cursor == nil {
			t.Errorf("cursor %s: got %#v, want a cursor", cursor, m)
			continue
		}
		if c, ok := wire.ParseCursor(*s.Cursor); ok {
			t.Errorf("cursor %s became %v", cursor, c)
		}
	}
}

func TestDecodeClientMessage_Refused(t *testing.T) {
	for code, frames := range map[wire.Code][]string{
		wire.CodeInvalidJSON: {
			``, ` `, `x`, `null`, `true`, `7`, `"ping"`, `[]`, `[{"type":"ping"}]`, `{`, `}`, `{"type":"ping"`, `{"type":"ping"}}`,
			`{"type":"ping"}{"type":"ping"}`, `{"type":"ping",}`, `{'type':'ping'}`, `{type:"ping"}`, "{\"type\":\"pi\nng\"}",
			"\ufeff{\"type\":\"ping\"}", `{"type":"ping"} //`, strings.Repeat(`{"a":`, 20000), "\xff",
		},
		wire.CodeUnknownType: {
			`{}`, `{"type":null}`, `{"type":7}`, `{"type":["ping"]}`, `{"type":""}`, `{"type":"Ping"}`, `{"type":"PING"}`,
			`{"type":"ping "}`, `{"type":"pong"}`, `{"type":"notification"}`, `{"Type":"ping"}`, `{"TYPE":"ping"}`, `{"t":"ping"}`,
			`{"filter":"all"}`, `{"type":"ping","type":"later"}`, `{"type":"` + strings.Repeat("x", 50000) + `"}`,
		},
		wire.CodeInvalidFilter: {
			`{"type":"subscribe"}`, `{"type":"subscribe","filter":null}`, `{"type":"subscribe","filter":7}`,
			`{"type":"subscribe","filter":["all"]}`, `{"type":"subscribe","filter":{}}`, `{"type":"subscribe","Filter":"all"}`,
			`{"type":"subscribe","filters":["all"]}`, `{"type":"subscribe","filter":"all","filter":null}`,
			`{"type":"unsubscribe"}`, `{"type":"unsubscribe","filter":true}`,
		},
	} {
		for _, frame := range frames {
			m, err := wire.DecodeClientMessage([]byte(frame))
			var refused *wire.Error
			if m != nil || !errors.As(err, &refused) || refused.Code != code {
				t.Errorf("decode %.80q: got %v and %v, want %s", frame, m, err, code)
				continue
			}
			if refused.Message == "" || len(refused.Message) > 500 {
				t.Errorf("decode %.80q: message %q", frame, refused.Message)
			}
		}
	}
}

func TestObject(t *testing.T) {
	members, err := wire.Object([]byte(` { "a" : 1 , "A":[ 2 ],"a": "3" } `))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for name, value := range members {
		got[name] = string(value)
	}
	if diff := cmp.Diff(map[string]string{"a": `"3"`, "A": `[ 2 ]`}, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if members, err := wire.Object([]byte(`{}`)); err != nil || members == nil || len(members) > 0 {
		t.Errorf("{}: %v, %v", members, err)
	}
	for _, s := range []string{``, `null`, `[]`, `1`, `"{}"`, `{}{}`, `{"a"}`} {
		if members, err := wire.Object([]byte(s)); err == nil {
			t.Errorf("Object(%s) = %v", s, members)
		}
	}
}
