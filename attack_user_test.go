package main_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Another's notifications are not to be had, however one asks for them.
func TestAttack_AnothersFilter(t *testing.T) {
	t.Parallel()
	x := withSecret(t, "ATTUNE_SUBSCRIBE_RATE=0")
	seven := x.user(7)
	spellings := []string{
		"user:8", "user:08", "user:008", "user:007", "user:+7", "user:+8", "user:-8", "user:-0", "user:--8", "user:8 ", " user:8", "user: 8", "user :8",
		"user:8\t", "user:8\n", "user:8\r\n", "user:8\x00", "user:\u00a08", "user:8\u200b", "\ufeffuser:8", "user:８", "user:٨", "user:८", "user:⑧", "user:Ⅷ", "user:⁸",
		"ｕser:8", "uѕer:8", "USER:8", "User:8", "uSeR:8", "user:8.0", "user:8e0", "user:0x8", "user:0b1000", "user:0o10", "user:1_0", "user:8,7", "user:7,8", "user:7|8",
		"user:7 OR user:8", "user:7;user:8", "user:7&filter=user:8", "user:*", "user:?", "user:%", "user:[78]", "user:null", "user:undefined", "user:NaN", "user:", "user", ":8",
		"user::8", "user:8:", "user:8:8", "user:7:8", "user:9223372036854775808", "user:18446744073709551624", "user:" + strings.Repeat("0", 5000) + "8",
		"entity:user:", "entity_type:*", "entity:*:*", "notification_type:%", "*", "", "ALL", "all ", "al\u217c", "user%3A8", "user:%38", "user\\u003a8", "user:'8'", `user:"8"`, "user:\U0001D7EA",
	}
	refused := func(spelling string) int {
		if spelling == "user:8" || spelling == "user:-8" { // well written, and not his
			return http.StatusForbidden
		}
		return http.StatusBadRequest
	}
	ws := x.socket(t, "", seven)
	ws.until(t, `"welcome"`)
	asked := 0
	for _, spelling := range spellings {
		want := refused(spelling)
		for _, query := range []string{
			"?filter=" + url.QueryEscape(spelling), "?filter=" + everyByte(spelling), "?%66ilter=" + url.QueryEscape(spelling),
			"?filter=user:7&filter=" + url.QueryEscape(spelling), "?filter=" + url.QueryEscape(spelling) + "&filter=all",
		} {
			for path, headers := range map[string][]string{"/events": {bearer(seven)}, "/ws": upgradeTo(bearer(seven))} {
				asked++
				status, _, body := x.ask(t, http.MethodGet, path+query, headers...)
				// A URL this long is refused for that.
				if status != want && (len(query) < 4096 || status != http.StatusRequestHeaderFieldsTooLarge) {
					t.Errorf("%s%.200s: %d, want %d: %s", path, query, status, want, body)
				}
			}
			if len(spelling) > 1000 {
				break
			}
		}
		code := "invalid_filter"
		if want == http.StatusForbidden {
			code = "forbidden"
		}
		ws.text(fmt.Sprintf(`{"type":"subscribe","filter":%s}`, quoted(spelling)))
		ws.text(`{"type":"ping"}`)
		asked++
		if said := ws.until(t, `"type":`); !strings.Contains(said, `"code":"`+code+`"`) {
			t.Errorf("subscribe %.60q: %s, want %s", spelling, said, code)
		}
		ws.until(t, `"pong"`)
	}
	for _, message := range []string{
		`{"type":"subscribe","filter":["user:8"]}`, `{"type":"subscribe","filter":{"user":8}}`, `{"type":"subscribe","filter":8}`, `{"type":"subscribe","filter":null}`,
		`{"type":"subscribe","filter":"user:7","filter":"user:8"}`, `{"type":"subscribe","filters":["user:8"]}`, `{"type":"SUBSCRIBE","filter":"user:8"}`,
		`{"type":"subscribe","Filter":"user:8"}`, `{"type":"subscribe","filter":"\u0075ser:8"}`, `{"type":"subscribe","filter":"user:8","user_id":8,"roles":["admin"]}`,
		`[{"type":"subscribe","filter":"user:8"}]`,
	} {
		ws.text(message)
		ws.text(`{"type":"ping"}`)
		asked++
		if said := ws.until(t, `"type":`); !strings.Contains(said, `"type":"error"`) {
			t.Errorf("%s: %s", message, said)
		}
		ws.until(t, `"pong"`)
	}
	t.Logf("%d spellings, asked for in %d ways together", len(spellings), asked)
	x.wellStill(t)
}

// everyByte writes every byte of text as %XX.
func everyByte(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, "%%%02x", text[i])
	}
	return b.String()
}

// quoted is text as a JSON string.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if r < ' ' || r == '"' || r == '\\' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// Whatever he follows, and from wherever, a user gets his own notifications and those
// that are nobody's.
func TestAttack_AnothersNotifications(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	seven := x.user(7)
	filters := []string{"all", "entity_type:order", "entity:order:1", "user:7", "notification_type:" + attackChannel, "entity:user:8", "entity_type:user"}
	query := "?filter=" + strings.Join(filters, "&filter=")
	queries := []string{"?filter=all", "?filter=user:7&filter=all", query, "?filter=entity_type:order", "?filter=notification_type:" + attackChannel}

	type follower struct {
		name string
		next func() string // the next notification, or what comes instead
	}
	var followers []follower
	bySocket := func(name string, s *socket) {
		followers = append(followers, follower{name, func() string { return s.until(t, `"notification"`) }})
	}
	var cursor string
	for _, q := range append(queries, "", "?filter[]=user:8", "?Filter=user:8", "?filters=user:8", "?filter%00=user:8", "?user_id=8") {
		lines := x.lines(t, "/events"+q, bearer(seven))
		welcome := lines("welcome")
		cursor = decode[struct{ Cursor string }](t, welcome).Cursor
		followers = append(followers, follower{"/events" + q, func() string { return lines("message") }})
	}
	for _, q := range queries {
		s := x.socket(t, q, seven)
		s.until(t, `"subscribed"`)
		bySocket("/ws"+q, s)
	}
	s := x.socket(t, "", seven)
	for _, f := range filters {
		s.text(fmt.Sprintf(`{"type":"subscribe","filter":%q}`, f))
		s.until(t, `"subscribed","filter":"`+f)
	}
	bySocket("/ws, subscribed", s)

	for _, payload := range []string{
		`{"entity_type":"order","entity_id":1,"user_id":8,"leak":1}`,
		`{"user_id":8,"entity_id":1,"entity_type":"order","leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":8,"USER_ID":7,"User_Id":null,"leak":1}`,
		`{"entity_type":"order","entity_id":1,"USER_ID":7,"\u0075ser_id":8,"leak":1}`,
		`{"entity_type":"user","entity_id":8,"user_id":8,"leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":-7,"leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":"7","leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":7.0,"leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":[7],"leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":9223372036854775815,"leak":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":7,"mine":1}`,
		`{"entity_type":"order","entity_id":1,"user_id":null,"mine":2}`,
		`{"entity_type":"order","entity_id":1,"mine":3}`,
		`{"entity_type":"order","entity_id":1,"user_id":8,"leak":1,"mine":3}`,
		`{"entity_type":"order","entity_id":1,"user_id":7,"mine":4}`,
	} {
		x.notify(t, payload)
	}
	check := func(f follower) {
		t.Helper()
		for i := 1; i <= 4; i++ {
			got := f.next()
			if strings.Contains(got, `"leak"`) || !strings.Contains(got, fmt.Sprintf(`"mine":%d`, i)) {
				t.Errorf("%s gets %s, want number %d of his own", f.name, got, i)
			}
		}
	}
	for _, f := range followers {
		check(f)
	}

	// Replayed, to one and the other, and to somebody else's cursor.
	live := len(followers)
	for _, q := range queries {
		lines := x.lines(t, "/events"+q+"&cursor="+cursor, bearer(seven))
		lines("welcome")
		followers = append(followers, follower{"replay of /events" + q, func() string { return lines("message") }})
		lastID := x.lines(t, "/events"+q, bearer(seven), "Last-Event-ID: "+cursor)
		lastID("welcome")
		followers = append(followers, follower{"replay by header of /events" + q, func() string { return lastID("message") }})
		bySocket("replay of /ws"+q, x.socket(t, q+"&cursor="+cursor, seven))
	}
	again := x.socket(t, "", seven)
	again.text(fmt.Sprintf(`{"type":"subscribe","filter":"all","cursor":%q}`, cursor))
	bySocket("replay of /ws, subscribed", again)
	for _, f := range followers[live:] {
		check(f)
	}
	t.Logf("%d streams live and %d replayed: no notification of another's", live, len(followers)-live)

	// He whose they are gets them.
	eight := x.socket(t, "?filter=user:8&cursor="+cursor, x.user(8))
	eight.until(t, `"leak"`)
	x.wellStill(t)
}

// lines opens an event stream until t ends; what is returned waits for the next event of
// a name and returns its data.
func (x *target) lines(t *testing.T, path string, headers ...string) func(name string) string {
	t.Helper()
	resp := x.request(t, http.MethodGet, path, headers...)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", path, resp.Status)
	}
	stream := &eventStream{bufio.NewScanner(resp.Body)}
	return func(name string) string {
		t.Helper()
		return stream.next(t, name)
	}
}
