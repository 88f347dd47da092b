package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"attune/wire"
)

func TestCursor_RoundTrip(t *testing.T) {
	for text, want := range map[string]wire.Cursor{
		"k3f9.1042":                     {Epoch: "k3f9", Offset: 1042},
		"k.0":                           {Epoch: "k", Offset: 0},
		"L.18446744073709551615":        {Epoch: "L", Offset: 1<<64 - 1},
		"-_A9.1":                        {Epoch: "-_A9", Offset: 1},
		strings.Repeat("e", 126) + ".7": {Epoch: strings.Repeat("e", 126), Offset: 7},
	} {
		c, ok := wire.ParseCursor(text)
		if !ok || c != want {
			t.Errorf("ParseCursor(%q) = %v, %t", text, c, ok)
		}
		if got := want.String(); got != text {
			t.Errorf("%#v is %q, want %q", want, got, text)
		}
	}
}

func TestParseCursor_Refused(t *testing.T) {
	for _, s := range []string{
		"", ".", "k", "k.", ".5", "5", "k.05", "k.00", "k.-1", "k.+1", "k.1.2", "k..1", "k.x", "k.1x", "k.0x1", "k.1_0", "k.1e3",
		"k.18446744073709551616", "k.99999999999999999999999", " k.1", "k.1 ", "k.1\n", "k .1", "k:1", "k/1", "ä.1", "k.\u0661",
		"k.1\x00", "null", strings.Repeat("e", 127) + ".7", strings.Repeat("e", 1<<16) + ".7", "k." + strings.Repeat("0", 125) + "1",
	} {
		if c, ok := wire.ParseCursor(s); ok || c != (wire.Cursor{}) {
			t.Errorf("ParseCursor(%q) = %v, %t", s, c, ok)
		}
	}
}

func TestCursor_Zero(t *testing.T) {
	if s := (wire.Cursor{}).String(); s != "" {
		t.Errorf("the zero cursor is %q", s)
	}
	if s := (wire.Cursor{Offset: 5}).String(); s != "" {
		t.Errorf("a cursor without an epoch is %q", s)
	}
}

func TestCursor_JSON(t *testing.T) {
	b, err := json.Marshal(wire.Cursor{Epoch: "k3f9", Offset: 1042})
	if err != nil || string(b) != `"k3f9.1042"` {
		t.Errorf("encoded: %s, %v", b, err)
	}
	for text, want := range map[string]wire.Cursor{
		`"k3f9.1042"`: {Epoch: "k3f9", Offset: 1042},
		// A client passes over what only a newer server understands.
		`"v2/opaque"`: {},
		`""`:          {},
	} {
		c := wire.Cursor{Epoch: "old", Offset: 1}
		if err := json.Unmarshal([]byte(text), &c); err != nil || c != want {
			t.Errorf("decode %s: %v, %v", text, c, err)
		}
	}
}
