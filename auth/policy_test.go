package auth_test

import (
	"fmt"
	"testing"

	"attune/auth"
	"attune/wire"
)

func filter(tb testing.TB, text string) wire.Filter {
	tb.Helper()
	f, err := wire.ParseFilter(text)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// TestPolicy walks all of the table: every role and every action, on what is one's own,
// nobody's and another's.
func TestPolicy(t *testing.T) {
	type answers struct{ own, shared, another bool }
	const (
		user, other = int64(7), int64(8)
		execution   = int64(42)
	)
	roles := map[string]*auth.Identity{
		"nobody":    {User: user},
		"execution": {User: user, Role: auth.RoleExecution, Execution: execution},
		"user":      {User: user, Role: auth.RoleUser},
		"admin":     {User: user, Role: auth.RoleAdmin},
		"anyone":    auth.Anyone(),
	}
	none, all, mine := answers{}, answers{true, true, true}, answers{true, true, false}
	table := []struct {
		action auth.Action
		about  string // of the subject
		want   map[string]answers
	}{
		{auth.Subscribe, "all", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.Subscribe, "entity_type:execution", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.Subscribe, "entity:execution:41", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.Subscribe, "entity:execution:42", map[string]answers{"execution": mine, "user": mine, "admin": all, "anyone": all}},
		{auth.Subscribe, "entity:orders:42", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.Subscribe, "notification_type:execution_created", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.ReadExecution, "entity:execution:41", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.ReadExecution, "entity:execution:42", map[string]answers{"execution": mine, "user": mine, "admin": all, "anyone": all}},
		{auth.ListExecutions, "entity_type:execution", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.CreateExecution, "entity_type:execution", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.CancelExecution, "entity:execution:42", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.ReadEntity, "entity:orders:42", map[string]answers{"user": mine, "admin": all, "anyone": all}},
		{auth.ReadEntity, "entity:execution:42", map[string]answers{"execution": mine, "user": mine, "admin": all, "anyone": all}},
		{auth.TakeTicket, "all", map[string]answers{"execution": mine, "user": mine, "admin": all, "anyone": all}},
		{auth.OpenSession, "all", map[string]answers{"execution": mine, "user": mine, "admin": all, "anyone": all}},
		{auth.Observe, "all", map[string]answers{"admin": all, "anyone": all}},
	}
	seen := map[auth.Action]bool{auth.Receive: true} // TestPolicy_Receives
	for _, row := range table {
		seen[row.action] = true
		for name, id := range roles {
			ask := func(owner *int64) bool {
				err := id.May(row.action, auth.Subject{Filter: filter(t, row.about), Owner: owner})
				if err != nil {
					refused(t, name, err, wire.CodeForbidden)
				}
				return err == nil
			}
			got := answers{own: ask(new(user)), shared: ask(nil), another: ask(new(other))}
			want, ok := row.want[name]
			if !ok {
				want = none
			}
			if name == "anyone" {
				got.own = want.own // nobody is anybody there
			}
			if got != want {
				t.Errorf("%s may %s (%s): %+v, want %+v", name, row.action, row.about, got, want)
			}
		}
	}
	for action := auth.Subscribe; action <= auth.Observe; action++ {
		if !seen[action] {
			t.Errorf("nothing is asked about %q", action)
		}
	}
	for _, c := range []struct {
		user string
		want map[string]bool
	}{
		{"user:7", map[string]bool{"user": true, "admin": true, "anyone": true}},
		{"user:8", map[string]bool{"admin": true, "anyone": true}},
		{"user:-7", map[string]bool{"admin": true, "anyone": true}},
	} {
		for name, id := range roles {
			if err := id.May(auth.Subscribe, auth.Subject{Filter: filter(t, c.user)}); (err == nil) != c.want[name] {
				t.Errorf("%s subscribes to %s: %v", name, c.user, err)
			}
		}
	}
	var missing *auth.Identity
	refused(t, "no identity", missing.May(auth.Subscribe, auth.Subject{}), wire.CodeForbidden)
	if auth.ReachOf(200, auth.Subscribe) != auth.Nothing || auth.ReachOf(auth.RoleAdmin, 200) != auth.Nothing {
		t.Error("what is not in the table is allowed")
	}
}

func TestPolicy_Receives(t *testing.T) {
	notification := func(entity string, id int64, user *int64) *wire.Notification {
		return &wire.Notification{NotificationType: entity + "_changed", EntityType: entity, EntityID: wire.IntID(id), UserID: user}
	}
	own, other := new(int64(7)), new(int64(8))
	restricted := func(texts ...string) *auth.Identity {
		id := &auth.Identity{User: 7, Role: auth.RoleUser, Restricted: true}
		for _, text := range texts {
			p, err := auth.ParsePattern(text)
			if err != nil {
				t.Fatal(err)
			}
			id.Only = append(id.Only, p)
		}
		return id
	}
	text42, err := wire.StringID("42")
	if err != nil {
		t.Fatal(err)
	}
	asText := notification("execution", 42, nil)
	asText.EntityID = text42
	about := []*wire.Notification{
		notification("execution", 42, nil), notification("execution", 42, own), notification("execution", 42, other),
		notification("execution", 41, nil), notification("orders", 42, nil), notification("orders", 42, own), asText,
	}
	for name, c := range map[string]struct {
		id   *auth.Identity
		want string // for each of about
	}{
		"nobody":       {&auth.Identity{User: 7}, "nnnnnnn"},
		"execution":    {&auth.Identity{User: 7, Role: auth.RoleExecution, Execution: 42}, "yynnnnn"},
		"user":         {&auth.Identity{User: 7, Role: auth.RoleUser}, "yynyyyy"},
		"admin":        {&auth.Identity{User: 9, Role: auth.RoleAdmin}, "yyyyyyy"},
		"anyone":       {auth.Anyone(), "yyyyyyy"},
		"nothing":      {restricted(), "nnnnnnn"},
		"all":          {restricted("all"), "yynyyyy"},
		"orders":       {restricted("entity_type:orders"), "nnnnyyn"},
		"every orders": {restricted("entity:orders:*"), "nnnnyyn"},
		"every 42":     {restricted("entity:*:42"), "yynnyyy"},
		"two":          {restricted("entity:execution:41", "notification_type:orders_changed"), "nnnyyyn"},
		"own":          {restricted("user:7"), "nynnnyn"},
		"any user's":   {restricted("user:*"), "nynnnyn"},
		"another's":    {restricted("user:8"), "nnnnnnn"},
	} {
		got := ""
		for _, n := range about {
			if c.id.Receives(n) {
				got += "y"
			} else {
				got += "n"
			}
		}
		if got != c.want {
			t.Errorf("%s receives %s, want %s", name, got, c.want)
		}
		if allocs := testing.AllocsPerRun(10, func() { c.id.Receives(about[4]) }); allocs > 0 && name != "another's" && name != "own" {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func TestPattern(t *testing.T) {
	for pattern, c := range map[string]struct{ covers, not []string }{
		"all":                   {[]string{"all", "user:7", "entity:a:b", "notification_type:x"}, nil},
		"entity_type:execution": {[]string{"entity_type:execution", "entity:execution:42"}, []string{"all", "entity_type:executions", "entity:orders:1", "notification_type:execution"}},
		"entity_type:*":         {[]string{"entity_type:a", "entity:a:b"}, []string{"all", "user:1", "notification_type:a"}},
		"entity:orders:*":       {[]string{"entity:orders:42", "entity:orders:-"}, []string{"all", "entity_type:orders", "entity:order:42"}},
		"entity:*:42":           {[]string{"entity:orders:42"}, []string{"entity:orders:420", "entity_type:orders"}},
		"entity:orders:42":      {[]string{"entity:orders:42"}, []string{"entity:orders:042", "entity:Orders:42"}},
		"user:7":                {[]string{"user:7"}, []string{"user:8", "all"}},
		"user:*":                {[]string{"user:7", "user:-1"}, []string{"entity:user:7"}},
		"notification_type:*":   {[]string{"notification_type:x"}, []string{"entity_type:x"}},
	} {
		p, err := auth.ParsePattern(pattern)
		if err != nil {
			t.Error(err)
			continue
		}
		if p.String() != pattern {
			t.Errorf("%s prints as %s", pattern, p)
		}
		for _, text := range c.covers {
			if !p.Covers(filter(t, text)) {
				t.Errorf("%s does not cover %s", pattern, text)
			}
		}
		for _, text := range c.not {
			if p.Covers(filter(t, text)) {
				t.Errorf("%s covers %s", pattern, text)
			}
		}
	}
	for _, bad := range []string{"", "*", "all:*", "entity:*", "entity:a:b:*", "entity:a*:1", "user:00*", "user:07", "user:", "entity_type:", "entity_type:a:b", "ALL", " all", "all ", "entity:orders:*\n"} {
		if p, err := auth.ParsePattern(bad); err == nil {
			t.Errorf("%q was accepted as %s", bad, p)
		} else if want := fmt.Sprintf("%q", bad); len(err.Error()) < len(want) {
			t.Error(err)
		}
	}
}
