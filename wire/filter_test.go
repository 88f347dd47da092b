package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/wire"
)

func TestParseFilter_Accepted(t *testing.T) {
	type63, id128 := strings.Repeat("t", 63), strings.Repeat("i", 128)
	for _, s := range []string{
		"all",
		"entity_type:execution", "entity_type:A-Z_0.9", "entity_type:.", "entity_type:-", "entity_type:_", "entity_type:all",
		"entity_type:7", "entity_type:Execution", "entity_type:" + type63,
		"notification_type:execution_status_changed", "notification_type:" + type63,
		"entity:execution:42", "entity:orders:042", "entity:orders:-0", "entity:orders:a.b-c_D", "entity:" + type63 + ":" + id128,
		"entity:execution:99999999999999999999",
		"user:0", "user:7", "user:-7", "user:9223372036854775807", "user:-9223372036854775808",
	} {
		f, err := wire.ParseFilter(s)
		if err != nil {
			t.Errorf("ParseFilter(%q): %v", s, err)
			continue
		}
		if f == (wire.Filter{}) {
			t.Errorf("ParseFilter(%q) is the zero filter", s)
		}
		if got := f.String(); got != s {
			t.Errorf("ParseFilter(%q).String() = %q", s, got)
		}
		if again, err := wire.ParseFilter(f.String()); err != nil || again != f {
			t.Errorf("ParseFilter(%q) parsed again: %v and %v", s, again, err)
		}
	}
}

func TestParseFilter_Refused(t *testing.T) {
	type64, id129 := strings.Repeat("t", 64), strings.Repeat("i", 129)
	for _, s := range []string{
		"", " ", ":", "::", "all:", "all ", " all", "all\n", "all\x00", "ALL", "All", "alle", "al", "*", "none", `"all"`, "all,all",
		"entity_type", "entity_type:", "entity_type: execution", "entity_type:execution ", "entity_type:execution\n",
		"entity_type:execution\r\n", "entity_type:a b", "entity_type:a:b", "entity_type::a", "entity_type:ä", "entity_type:a/b",
		"entity_type:a*", "entity_type:a\x00", "entity_type:\xff", "entity_type:" + type64, "Entity_type:execution",
		"ENTITY_TYPE:execution", "entity-type:execution", "entitytype:execution", "entity_type=execution",
		"entity_type:\uff41", "entity_type:a\u200b", "entity_type:a%20b",
		"notification_type", "notification_type:", "notification_type:" + type64, "notification_type:a:b",
		"notification_type:Änderung", "Notification_Type:x", "notification_type:x\t",
		"entity", "entity:", "entity::", "entity:execution", "entity:execution:", "entity::42", "entity:a:b:c", "entity:a:42:",
		"entity:execution: 42", "entity:execution:42 ", "entity:execution:42\n", "entity:execution:+42", "entity:execution:4,2",
		"entity:execution:\u0664\u0662", "entity:ex ecution:42", "entity:" + type64 + ":1", "entity:t:" + id129, "Entity:execution:42",
		"user", "user:", "user: 7", "user:7 ", "user:7\n", "user:007", "user:+1", "user:-0", "user:-07", "user:00", "user:--1",
		"user:1.0", "user:1e3", "user:0x10", "user:1_000", "user:\u0667", "user:\uff17", "user:alice", "user:7:8", "user:-",
		"user:9223372036854775808", "user:-9223372036854775809", "User:7", "USER:7", "users:7", "user=7",
		"id:7", "execution:42", "entity_id:42",
	} {
		f, err := wire.ParseFilter(s)
		if err == nil {
			t.Errorf("ParseFilter(%q) = %v, want an error", s, f)
			continue
		}
		if f != (wire.Filter{}) {
			t.Errorf("ParseFilter(%q) gave %v with its error", s, f)
		}
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Code != wire.CodeInvalidFilter {
			t.Errorf("ParseFilter(%q): error %v, want %s", s, err, wire.CodeInvalidFilter)
			continue
		}
		if !strings.Contains(refused.Message, wire.FilterForms) {
			t.Errorf("ParseFilter(%q): %q does not say what is accepted", s, refused.Message)
		}
	}
}

// The message names what was wrong, in a bounded number of printable characters.
func TestParseFilter_Message(t *testing.T) {
	_, err := wire.ParseFilter("user:007\n")
	if err == nil || !strings.Contains(err.Error(), `"user:007\n"`) {
		t.Errorf("error %v does not quote the filter", err)
	}
	_, err = wire.ParseFilter(strings.Repeat("\x00", 1<<16))
	if err == nil || len(err.Error()) > 2000 {
		t.Errorf("an error of %d bytes for a long filter", len(err.Error()))
	}
}

func TestFilter_Matches(t *testing.T) {
	execution := &wire.Notification{
		NotificationType: "execution_status_changed", EntityType: "execution", EntityID: wire.IntID(42), UserID: new(int64(7)),
	}
	order := &wire.Notification{NotificationType: "orders", EntityType: "orders", EntityID: stringID(t, "42")}
	padded := &wire.Notification{NotificationType: "orders", EntityType: "orders", EntityID: stringID(t, "042")}
	negative := &wire.Notification{NotificationType: "n", EntityType: "e", EntityID: wire.IntID(-1 << 63), UserID: new(int64(-1 << 63))}
	for _, tc := range []struct {
		filter string
		want   []*wire.Notification
	}{
		{"all", []*wire.Notification{execution, order, padded, negative}},
		{"entity_type:execution", []*wire.Notification{execution}},
		{"entity_type:Execution", nil},
		{"entity_type:exec", nil},
		{"entity_type:execution_status_changed", nil},
		{"entity_type:orders", []*wire.Notification{order, padded}},
		{"notification_type:execution_status_changed", []*wire.Notification{execution}},
		{"notification_type:execution", nil},
		{"notification_type:orders", []*wire.Notification{order, padded}},
		{"entity:execution:42", []*wire.Notification{execution}},
		{"entity:execution:4", nil},
		{"entity:execution:7", nil},
		{"entity:orders:42", []*wire.Notification{order}},
		{"entity:orders:042", []*wire.Notification{padded}},
		{"entity:e:-9223372036854775808", []*wire.Notification{negative}},
		{"user:7", []*wire.Notification{execution}},
		{"user:42", nil},
		{"user:0", nil},
		{"user:-9223372036854775808", []*wire.Notification{negative}},
	} {
		f := filter(t, tc.filter)
		for _, n := range []*wire.Notification{execution, order, padded, negative} {
			want := false
			for _, w := range tc.want {
				want = want || w == n
			}
			if got := f.Matches(n); got != want {
				t.Errorf("%s matches %s %s of user %v: %t, want %t", f, n.EntityType, n.EntityID, n.UserID, got, want)
			}
		}
	}
}

// An integer and the same digits as a text are one entity for a filter.
func TestFilter_Matches_NumberAndText(t *testing.T) {
	f := filter(t, "entity:orders:42")
	for _, id := range []wire.EntityID{wire.IntID(42), stringID(t, "42")} {
		if !f.Matches(&wire.Notification{EntityType: "orders", EntityID: id}) {
			t.Errorf("%s does not match %#v", f, id)
		}
	}
}

func TestFilter_Zero(t *testing.T) {
	var zero wire.Filter
	for _, n := range []*wire.Notification{{}, {EntityType: "e", EntityID: wire.IntID(0), UserID: new(int64(0))}} {
		if zero.Matches(n) {
			t.Errorf("the zero filter matches %v", n)
		}
	}
	if s := zero.String(); s != "" {
		t.Errorf("the zero filter is %q", s)
	}
}

func TestFilter_User(t *testing.T) {
	for s, want := range map[string]int64{"user:0": 0, "user:-7": -7, "user:9223372036854775807": 1<<63 - 1} {
		if id, ok := filter(t, s).User(); !ok || id != want {
			t.Errorf("%s: User() = %d, %t", s, id, ok)
		}
	}
	for _, s := range []string{"all", "entity_type:user", "entity:user:7", "notification_type:user"} {
		if id, ok := filter(t, s).User(); ok {
			t.Errorf("%s: User() = %d", s, id)
		}
	}
}

func TestEntityFilter(t *testing.T) {
	if got, want := wire.EntityFilter("execution", "42"), filter(t, "entity:execution:42"); got != want {
		t.Errorf("EntityFilter = %v, want %v", got, want)
	}
}

// Filters are what an index is looked up by: they are the filters that match, all of
// them, and only they.
func TestNotification_Filters(t *testing.T) {
	n := &wire.Notification{NotificationType: "c", EntityType: "e", EntityID: stringID(t, "x"), UserID: new(int64(-5))}
	for _, tc := range []struct {
		user *int64
		want []string
	}{
		{nil, []string{"all", "entity_type:e", "entity:e:x", "notification_type:c"}},
		{new(int64(-5)), []string{"all", "entity_type:e", "entity:e:x", "notification_type:c", "user:-5"}},
	} {
		n.UserID = tc.user
		kept := filter(t, "entity_type:kept")
		filters := n.Filters([]wire.Filter{kept})
		if filters[0] != kept {
			t.Errorf("Filters replaced what it should append to")
		}
		var got []string
		for _, f := range filters[1:] {
			got = append(got, f.String())
			if !f.Matches(n) {
				t.Errorf("%s does not match its notification", f)
			}
			if f != filter(t, f.String()) {
				t.Errorf("%s differs from the filter of that text", f)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("Filters (-want +got):\n%s", diff)
		}
	}
}

func TestIsTypeName(t *testing.T) {
	for s, want := range map[string]bool{
		"execution": true, "A.b-c_9": true, strings.Repeat("x", 63): true, strings.Repeat("x", 64): false,
		"": false, "a b": false, "a:b": false, "é": false, "a\n": false,
	} {
		if got := wire.IsTypeName(s); got != want {
			t.Errorf("IsTypeName(%q) = %t", s, got)
		}
	}
}

func filter(tb testing.TB, s string) wire.Filter {
	tb.Helper()
	f, err := wire.ParseFilter(s)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}
