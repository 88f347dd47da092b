package live_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/pg/live"
	"attune/wire"
)

func TestParseAnnouncement(t *testing.T) {
	user := int64(-3)
	text, err := wire.StringID("007")
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]live.Announcement{
		"lost":                {Lost: true},
		"9223372036854775807": {Seq: 9223372036854775807},
		"5\norders\n42\n\norders_changed\n{\"a\" : 1,\n\"b\":2}": {Seq: 5, Notification: &wire.Notification{
			NotificationType: "orders_changed", EntityType: "orders", EntityID: wire.IntID(42), Payload: []byte(`{"a":1,"b":2}`),
		}},
		"5\norders\n007\n-3\nß x\nnull": {Seq: 5, Notification: &wire.Notification{
			NotificationType: "ß x", EntityType: "orders", EntityID: text, UserID: &user, Payload: []byte(`null`),
		}},
	} {
		got, err := live.ParseAnnouncement(payload)
		if err != nil {
			t.Errorf("%q: %v", payload, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(wire.EntityID{})); diff != "" {
			t.Errorf("%q: -want +got:\n%s", payload, diff)
		}
	}
}

func TestParseAnnouncement_Refused(t *testing.T) {
	for payload, seq := range map[string]int64{
		"":                                  0,
		"0":                                 0,
		"-1":                                0,
		"+1":                                0,
		"01":                                0,
		"9223372036854775808":               0,
		"x\nt\n1\n\nc\n{}":                  0,
		"lost\n":                            0,
		"5\n":                               5,
		"5\nt\n1\n\nc":                      5,
		"5\nt t\n1\n\nc\n{}":                5,
		"5\nt\n\n\nc\n{}":                   5,
		"5\nt\n1\nx\nc\n{}":                 5,
		"5\nt\n1\n\n\n{}":                   5,
		"5\nt\n1\n\nc\r\n{}":                5,
		"5\nt\n1\n\nc\n":                    5,
		"5\nt\n1\n\nc\n{} {}":               5,
		"5\nt\n1\n\nc\n\"\xff\"":            5,
		"5\nt\n1\n\nsecret\n{\"secret\": x": 5,
	} {
		a, err := live.ParseAnnouncement(payload)
		switch {
		case err == nil:
			t.Errorf("%q: accepted", payload)
		case a.Seq != seq || a.Notification != nil || a.Lost:
			t.Errorf("%q: %+v, want seq %d alone", payload, a, seq)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: the error tells: %v", payload, err)
		}
	}
}

func FuzzParseAnnouncement(f *testing.F) {
	f.Add("lost")
	f.Add("12")
	f.Add("5\norders\n42\n7\norders_changed\n{\"a\": 1}")
	f.Fuzz(func(t *testing.T, payload string) {
		a, err := live.ParseAnnouncement(payload)
		if err != nil {
			return
		}
		if a.Lost == (a.Seq > 0) {
			t.Errorf("%+v", a)
		}
		if a.Notification == nil {
			return
		}
		// What is accepted must survive the way to a client.
		b, err := a.Notification.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again wire.Notification
		if err := again.UnmarshalJSON(b); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		again.Timestamp = a.Notification.Timestamp
		if diff := cmp.Diff(*a.Notification, again, cmp.AllowUnexported(wire.EntityID{})); diff != "" {
			t.Errorf("%q: -sent +received:\n%s", payload, diff)
		}
	})
}
