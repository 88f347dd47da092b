package wire_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"attune/wire"
)

// FuzzCompact: it takes what encoding/json takes, and leaves of it what that leaves.
func FuzzCompact(f *testing.F) {
	for _, s := range []string{
		``, ` `, `{}`, ` { } `, "\t[\r\n]\n", `[1,2]`, `[ 1 , 2 ]`, `[1,]`, `[,1]`, `[1 2]`, `{"a":1}`, `{ "a" : [ { } , "b c" ] }`,
		`{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{"a":1]`, `[1}`, `{}{}`, `{} x`, `"`, `"\`, `"\"`, `"\\"`, `"\u00e9"`, `"\u00e"`, `"\x"`,
		"\"\x00\"", "\"\n\"", "\"\xff\"", "\"\u2028\"", `" "`, `true`, `tru`, `truex`, `false`, `null`, `nul`, "0", "-0", "-", "01", "1.", ".5", "1.5e+10",
		"1e", "1e-", "1E5", "+1", "-01", "1 2", "\u00a01", "\ufeff1",
		strings.Repeat("[", 10000) + strings.Repeat("]", 10000), strings.Repeat("[", 10001) + strings.Repeat("]", 10001),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want bytes.Buffer
		err := json.Compact(&want, []byte(s))
		got, ok := wire.Compact(nil, []byte(s))
		switch {
		case ok != (err == nil):
			t.Fatalf("%.100q: accepted: %t; encoding/json says %v", s, ok, err)
		case ok && !bytes.Equal(got, want.Bytes()):
			t.Fatalf("%.100q: got %q, want %q", s, got, want.Bytes())
		}
	})
}

func BenchmarkCompact(b *testing.B) {
	text := []byte(`{"entity_type": "execution", "entity_id": 42, "payload": {"tags": [1, 2.5, null], "pad": "` + strings.Repeat("x", 270) + `"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := wire.Compact(nil, text); !ok {
			b.Fatal("refused")
		}
	}
}
