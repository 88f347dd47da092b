package http_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"attune/auth"
	"attune/pg"
	"attune/pg/live"
)

// publishTo publishes a notification about an execution that belongs to a user; nil: to
// everybody.
func (s *server) publishTo(id int64, user *int64) {
	n := notification(id)
	n.UserID = user
	s.hub.Publish(n)
}

// TestAuth_Required: who shows nothing, or something bad, gets nothing.
func TestAuth_Required(t *testing.T) {
	t.Parallel()
	k := startStack(t, true, withAuth(t))
	good := token(t, 7)
	for _, call := range []string{
		"GET /ws", "GET /events", "GET /executions", "GET /executions/1", "GET /executions/1?wait=1s", "POST /executions", "POST /executions/1/cancel",
		"GET /entities", "GET /entities/orders", "GET /entities/orders/1", "POST /tickets", "GET /session", "POST /session", "GET /stats", "GET /metrics",
	} {
		method, path, _ := strings.Cut(call, " ")
		t.Run(strings.ReplaceAll(call, "/", "_"), func(t *testing.T) {
			s := k.in(t)
			a := s.do(method, path, "{}")
			a.problem(401, "unauthenticated", "Authorization: Bearer", "ticket")
			equal(t, "resource policy", a.header.Get("Cross-Origin-Resource-Policy"), "same-origin")
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
			}
			for _, header := range []string{"Bearer", "Bearer ", "Basic YTpi", good, "Bearer " + good[:len(good)-3], "Bearer x.y.z"} {
				s.do(method, path, "{}", "Authorization", header).problem(401, "unauthenticated")
			}
			s.do(method, path, "{}", "Authorization", "Bearer "+token(t, 7, lasting(-time.Minute))).problem(401, "unauthenticated", "expired")
			s.do(method, path, "{}", "Cookie", "attune_token=x.y.z", "Origin", s.url).problem(401, "unauthenticated")
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			for _, name := range []string{"token", "access_token", "jwt"} {
				s.do(method, path+separator+name+"="+good, "{}").problem(400, "invalid_parameter", "POST /tickets", "?ticket=")
			}
			s.do(method, path, "{}", "Authorization", "Bearer "+good, "Authorization", "Bearer "+good).problem(400, "invalid_parameter", "send one")
		})
	}
	for _, path := range []string{"/", "/livez", "/readyz", "/health", "/attune.js"} {
		k.get(path).want(200)
	}
}

// TestAuth_WaysIn: each of the four.
func TestAuth_WaysIn(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t))
	good := token(t, 7)

	t.Run("Header", func(t *testing.T) {
		s := s.in(t)
		equal(t, "first", s.socket("/ws", "Authorization", "bearer "+good).next()["type"], any("welcome"))
		s.opened("?filter=all", "Authorization", "Bearer "+good)
	})

	t.Run("Subprotocol", func(t *testing.T) {
		s := s.in(t)
		c := s.socket("/ws", "Sec-WebSocket-Protocol", "attune.v1, attune.jwt."+good)
		equal(t, "selected", c.resp.Header.Values("Sec-WebSocket-Protocol"), []string{"attune.v1"})
		equal(t, "first", c.next()["type"], any("welcome"))
		// It is for WebSockets.
		s.get("/executions", "Sec-WebSocket-Protocol", "attune.v1, attune.jwt."+good).problem(401, "unauthenticated")
	})

	t.Run("Ticket", func(t *testing.T) {
		s := s.in(t)
		issue := func() string {
			a := s.do("POST", "/tickets", "", "Authorization", "Bearer "+good).want(201)
			equal(t, "cache", a.header.Get("Cache-Control"), "no-store")
			expires, err := time.Parse(time.RFC3339, a.object()["expires_at"].(string))
			if err != nil || time.Until(expires) > 30*time.Second {
				t.Errorf("expires %v, %v", expires, err)
			}
			return a.object()["ticket"].(string)
		}
		ticket := issue()
		equal(t, "first", s.socket("/ws?ticket=" + ticket).next()["type"], any("welcome"))
		s.get("/ws?ticket="+ticket).problem(401, "unauthenticated", "used", "POST /tickets")
		ticket = issue()
		s.get("/executions?ticket="+ticket).problem(400, "invalid_parameter", "bearer")
		s.get("/events?ticket="+ticket+"&ticket=x").problem(400, "invalid_parameter", "send one")
		s.get("/events?ticket="+ticket, "Authorization", "Bearer "+good).problem(400, "invalid_parameter", "send one")
		s.opened("?ticket=" + ticket) // none of the above has used it up
	})

	t.Run("Cookie", func(t *testing.T) {
		s := s.in(t)
		a := s.do("POST", "/session", "", "Authorization", "Bearer "+good).want(200)
		equal(t, "user", a.object()["user_id"], any(7.0))
		cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
		if err != nil {
			t.Fatal(err)
		}
		if cookie.Name != "attune_token" || cookie.Value != good || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Expires.IsZero() {
			t.Errorf("cookie %+v", cookie)
		}
		shown := "attune_token=" + cookie.Value
		s.opened("", "Cookie", shown)
		equal(t, "first", s.socket("/ws", "Cookie", shown, "Origin", s.url).next()["type"], any("welcome"))
		equal(t, "who", s.get("/session", "Cookie", shown).want(200).object()["user_id"], any(7.0))
		// A bearer token counts more than what the browser adds; of two cookies none is believed.
		equal(t, "who", s.get("/session", "Cookie", shown, "Authorization", "Bearer "+token(t, 8)).want(200).object()["user_id"], any(8.0))
		s.get("/session", "Cookie", shown+"; attune_token="+token(t, 8)).problem(400, "invalid_parameter", "send one")
		// A session is made of a bearer token, not of another session.
		s.do("POST", "/session", "", "Cookie", shown, "Origin", s.url).problem(403, "forbidden", "Bearer")

		for _, call := range []string{"POST /tickets", "POST /executions", "POST /session", "DELETE /session"} {
			method, path, _ := strings.Cut(call, " ")
			if path == "/executions" {
				continue // there is no table here
			}
			s.do(method, path, "", "Cookie", shown).problem(403, "forbidden", "Origin")
			for _, site := range []string{"cross-site", "same-site", "none"} {
				s.do(method, path, "", "Cookie", shown, "Sec-Fetch-Site", site).problem(403, "forbidden", "Origin")
			}
			s.do(method, path, "", "Cookie", shown, "Origin", "https://evil.example").problem(403, "forbidden", "ATTUNE_ALLOWED_ORIGINS")
			s.do(method, path, "", "Cookie", shown, "Origin", "null").problem(403, "forbidden")
		}
		s.do("POST", "/tickets", "", "Cookie", shown, "Sec-Fetch-Site", "same-origin").want(201)
		s.do("POST", "/tickets", "", "Cookie", shown, "Origin", s.url).want(201)
		for _, site := range []string{"cross-site", "same-site"} {
			s.get("/session", "Cookie", shown, "Sec-Fetch-Site", site).problem(403, "forbidden", "own pages")
		}
		s.do("DELETE", "/session", "").want(204) // there is nothing to guard
		long := token(t, 7, only(strings.Fields(strings.Repeat("entity:something:that-is-long ", 90))...))
		s.do("POST", "/session", "", "Authorization", "Bearer "+long).problem(413, "too_large", "browsers")
		a = s.do("DELETE", "/session", "", "Cookie", "attune_token=expired", "Origin", s.url).want(204)
		cookie, err = http.ParseSetCookie(a.header.Get("Set-Cookie"))
		if err != nil || cookie.Name != "attune_token" || cookie.Value != "" || time.Until(cookie.Expires) > 0 {
			t.Errorf("cookie %+v, %v", cookie, err)
		}
	})
}

// TestAuth_Filters: whose filters may be used, on each way to name one.
func TestAuth_Filters(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t))
	for name, c := range map[string]struct {
		token          string
		may, forbidden []string
	}{
		"User":      {token(t, 7), []string{"all", "user:7", "entity:execution:8", "entity_type:orders"}, []string{"user:8", "user:-7", "user:70"}},
		"Admin":     {token(t, 7, admin), []string{"all", "user:7", "user:8"}, nil},
		"Execution": {token(t, 7, forExecution(42)), []string{"entity:execution:42"}, []string{"all", "user:7", "entity:execution:43", "entity:orders:42", "entity_type:execution"}},
		"Listed": {
			token(t, 7, admin, only("entity:orders:*", "entity_type:execution")),
			[]string{"entity:orders:1", "entity_type:execution", "entity:execution:5"},
			[]string{"all", "entity_type:orders", "user:7", "notification_type:execution_created"},
		},
		"None": {token(t, 7, only()), nil, []string{"all", "user:7"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			socket := s.socket("/ws", "Authorization", "Bearer "+c.token)
			socket.next()
			for _, f := range c.may {
				socket.subscribe(f)
				s.opened("?filter="+f, "Authorization", "Bearer "+c.token)
				if got := s.socket("/ws?filter="+f, "Authorization", "Bearer "+c.token); got.next()["type"] != "welcome" {
					t.Errorf("%s: no welcome", f)
				}
			}
			for _, f := range c.forbidden {
				socket.send(`{"type":"subscribe","filter":"` + f + `"}`)
				socket.refused("forbidden")
				for _, path := range []string{"/events?filter=", "/ws?filter=", "/events?filter=entity:execution:42&filter="} {
					s.get(path+f, "Authorization", "Bearer "+c.token).problem(403, "forbidden")
				}
			}
			// Spellings of a user that are none are refused before anybody asks whose they are.
			for _, f := range []string{"user:008", "user:+8", "user: 8", "user:8 ", "user:٨", "user:8.0", "user:0x8", "USER:8", "user:8,user:7"} {
				socket.send(`{"type":"subscribe","filter":"` + f + `"}`)
				socket.refused("invalid_filter")
			}
		})
	}
	// Without a filter an event stream means all.
	s.get("/events", "Authorization", "Bearer "+token(t, 7, only("entity_type:orders"))).problem(403, "forbidden", "attune_filters")
}

// TestAuth_Deliveries: each delivery, live and replayed, is checked.
func TestAuth_Deliveries(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t))
	cursor := s.hub.Cursor().String()
	seven, eight := new(int64(7)), new(int64(8))
	publish := func(from int64) {
		s.publishTo(from, nil)
		s.publishTo(from+1, seven)
		s.publishTo(from+2, eight)
		s.publishTo(from+3, nil)
	}
	publish(1)
	for name, c := range map[string]struct {
		token, filter string
		replayed      []int64
	}{
		"User":      {token(t, 7), "all", []int64{1, 2, 4}},
		"ByType":    {token(t, 8), "entity_type:execution", []int64{1, 3, 4}},
		"Admin":     {token(t, 9, admin), "all", []int64{1, 2, 3, 4}},
		"Stranger":  {token(t, 9), "notification_type:execution_status_changed", []int64{1, 4}},
		"Listed":    {token(t, 7, only("entity:execution:*")), "entity:execution:4", []int64{4}},
		"Execution": {token(t, 8, forExecution(3)), "entity:execution:3", []int64{3}},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			bearer := []string{"Authorization", "Bearer " + c.token}
			st := s.opened("?filter="+c.filter+"&cursor="+cursor, bearer...)
			equal(t, "event stream, replayed", st.ids(len(c.replayed)), c.replayed)
			socket := s.socket("/ws?filter="+c.filter+"&cursor="+cursor, bearer...)
			socket.next()
			socket.next()
			equal(t, "WebSocket, replayed", socket.ids(len(c.replayed)), c.replayed)
		})
	}
	// Live: the last one goes to everybody, so whatever came before it is all.
	user, other := s.opened("", "Authorization", "Bearer "+token(t, 7)), s.opened("?mode=latest", "Authorization", "Bearer "+token(t, 8))
	all := s.opened("", "Authorization", "Bearer "+token(t, 9, admin))
	publish(11)
	equal(t, "user", user.ids(3), []int64{11, 12, 14})
	equal(t, "other", other.ids(3), []int64{11, 13, 14})
	equal(t, "admin", all.ids(4), []int64{11, 12, 13, 14})
}

// TestAuth_Expiry: a stream lives as long as its token, or as the one that was sent in
// its place.
func TestAuth_Expiry(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t))
	short := "Bearer " + token(t, 7, lasting(2*time.Second))
	st := s.opened("", "Authorization", short)
	socket := s.socket("/ws", "Authorization", short)
	socket.next()
	refreshed := s.socket("/ws", "Authorization", short)
	refreshed.next()
	refreshed.send(`{"type":"auth","token":"x"}`, `{"type":"auth"}`, `{"type":"auth","token":"`+token(t, 8)+`"}`)
	refreshed.refused("unauthenticated")
	refreshed.refused("unauthenticated")
	refreshed.refused("forbidden", "somebody else")
	refreshed.send(`{"type":"auth","token":"` + token(t, 7, admin) + `"}`)
	got := refreshed.next()
	equal(t, "answer", []any{got["type"], got["user_id"]}, []any{"authenticated", 7.0})
	if at, err := time.Parse(time.RFC3339, got["expires_at"].(string)); err != nil || time.Until(at) < time.Minute {
		t.Errorf("expires_at %v", got["expires_at"])
	}

	st.bye("token_expired")
	socket.closed(4401)
	refreshed.subscribe("user:8") // an admin by now
	s.publishTo(1, new(int64(8)))
	equal(t, "delivered", refreshed.ids(1), []int64{1})
	s.get("/session", "Authorization", short).problem(401, "unauthenticated", "expired")
}

// TestAuth_Revocation: what is withdrawn ends, and does not come back.
func TestAuth_Revocation(t *testing.T) {
	t.Parallel()
	var authority *auth.Authority
	s := start(t, withAuth(t), func(cfg *setup) { authority = cfg.Auth })
	bearer, other := "Bearer "+token(t, 7), "Bearer "+token(t, 8)
	st, kept := s.opened("", "Authorization", bearer), s.opened("", "Authorization", other)
	socket := s.socket("/ws", "Authorization", bearer)
	socket.next()
	authority.Revoke(auth.Revocation{User: 7, At: time.Now()})
	st.bye("access_withdrawn")
	socket.closed(4403)
	s.get("/session", "Authorization", bearer).problem(401, "unauthenticated", "revoked")
	s.publish(1)
	equal(t, "kept", kept.ids(1), []int64{1})
}

// TestAuth_Off: without authentication there is nothing to show, and nothing to take.
func TestAuth_Off(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", "/tickets", "").problem(404, "not_found", "authentication is off")
	s.do("POST", "/session", "").problem(404, "not_found", "authentication is off")
	s.do("DELETE", "/session", "").problem(404, "not_found", "authentication is off")
	s.opened("?filter=user:8", "Authorization", "Bearer whatever")
	c := s.welcomed("/ws")
	c.send(`{"type":"auth","token":"x"}`)
	c.refused("forbidden", "authentication is off")
}

// TestAuth_Executions: reads, lists, creation and cancel follow the rule of deliveries.
func TestAuth_Executions(t *testing.T) {
	t.Parallel()
	k := startStack(t, true, withAuth(t))
	as := func(text string) []string { return []string{"Authorization", "Bearer " + text} }
	seven, eight, boss := token(t, 7), token(t, 8), token(t, 1, admin)

	a := k.do("POST", "/executions", `{"action_ref":"core.sleep","parameters":{"seconds":60}}`, as(seven)...).want(201)
	equal(t, "executor", a.object()["executor"], any(7.0))
	path := a.header.Get("Location")
	id := int64(a.object()["id"].(float64))
	k.get(path, as(seven)...).want(200)
	k.get(path, as(boss)...).want(200)
	k.get(path+"?wait=1s", as(boss)...).want(200)
	k.get(path, as(token(t, 7, forExecution(id)))...).want(200)
	k.get(path, as(token(t, 7, only("entity_type:execution")))...).want(200)
	for name, text := range map[string]string{
		"Other": eight, "OtherExecution": token(t, 7, forExecution(id+1)), "OtherList": token(t, 7, only("entity_type:orders")),
		"AnothersExecution": token(t, 8, forExecution(id)),
	} {
		for _, query := range []string{"", "?wait=5m", "?wait=5m&until=terminal"} {
			a := k.get(path+query, as(text)...)
			a.problem(403, "forbidden")
			equal(t, name+": tag", a.header.Get("ETag"), "")
		}
		k.get(path, append(as(text), "If-None-Match", "*")...).problem(403, "forbidden")
		k.do("POST", path+"/cancel", "", as(text)...).problem(403, "forbidden")
	}
	// An execution token cannot tell what else there is.
	k.get("/executions/999999", as(token(t, 7, forExecution(id)))...).problem(403, "forbidden")
	k.get("/executions/999999", as(seven)...).problem(404, "not_found")

	ids := func(a answer) (list []float64) {
		for _, item := range a.want(200).object()["items"].([]any) {
			list = append(list, item.(map[string]any)["id"].(float64))
		}
		return list
	}
	theirs := k.do("POST", "/executions", `{"action_ref":"core.noop"}`, as(eight)...).want(201).object()["id"].(float64)
	equal(t, "seven's", ids(k.get("/executions", as(seven)...)), []float64{float64(id)})
	equal(t, "eight's", ids(k.get("/executions?limit=1", as(eight)...)), []float64{theirs})
	equal(t, "all", ids(k.get("/executions", as(boss)...)), []float64{theirs, float64(id)})
	for _, text := range []string{token(t, 7, forExecution(id)), token(t, 7, only("entity_type:orders")), token(t, 7, only("entity:execution:*"))} {
		k.get("/executions", as(text)...).problem(403, "forbidden")
		k.do("POST", "/executions", `{"action_ref":"core.noop"}`, as(text)...).problem(403, "forbidden")
	}
	k.do("POST", path+"/cancel", "", as(token(t, 7, forExecution(id)))...).problem(403, "forbidden")
	k.do("POST", path+"/cancel", "", as(seven)...).want(202)
}

// TestAuth_LongPoll: waiting ends with the token.
func TestAuth_LongPoll(t *testing.T) {
	t.Parallel()
	k := startStack(t, true, withAuth(t))
	path := k.do("POST", "/executions", `{"action_ref":"core.sleep","parameters":{"seconds":60}}`, "Authorization", "Bearer "+token(t, 7)).want(201).header.Get("Location")
	k.get(path+"?wait=5m&until=terminal", "Authorization", "Bearer "+token(t, 7, lasting(2*time.Second))).problem(401, "unauthenticated", "expired")
}

// TestAuth_Entities: another's row is as good as none.
func TestAuth_Entities(t *testing.T) {
	t.Parallel()
	pool := watchedTables(t, `CREATE TABLE orders (id int PRIMARY KEY, who bigint); INSERT INTO orders VALUES (7, 7), (8, 8), (0, NULL)`,
		map[string]live.WatchOptions{"orders": {UserID: "who"}})
	s := start(t, withAuth(t), func(cfg *setup) { cfg.Entities = pg.NewEntities(pool) })
	as := func(text string) []string { return []string{"Authorization", "Bearer " + text} }
	s.get("/entities/orders/7", as(token(t, 7))...).want(200)
	s.get("/entities/orders/0", as(token(t, 7))...).want(200)
	s.get("/entities/orders/8", as(token(t, 7, admin))...).want(200)
	another, none := s.get("/entities/orders/8", as(token(t, 7))...), s.get("/entities/orders/9", as(token(t, 7))...)
	another.problem(404, "not_found", "orders 8")
	equal(t, "another's", strings.ReplaceAll(another.body, "orders 8", "orders 9"), none.body)
	for who, want := range map[string]string{token(t, 7): `7 0`, token(t, 9): `0`, token(t, 7, admin): `8 7 0`} {
		var keys []string
		for _, item := range s.get("/entities/orders", as(who)...).want(200).object()["items"].([]any) {
			keys = append(keys, fmt.Sprint(item.(map[string]any)["entity_id"]))
		}
		equal(t, "keys of the rows that are listed", strings.Join(keys, " "), want)
	}
	restricted := token(t, 7, only("entity:orders:8"))
	s.get("/entities/orders", as(restricted)...).problem(403, "forbidden")
	equal(t, "types", s.get("/entities", as(restricted)...).want(200).body, `{"items":[]}`+"\n")
	s.get("/entities/orders", as(token(t, 7, forExecution(7)))...).problem(403, "forbidden")
	s.get("/entities/orders/7", as(token(t, 7, forExecution(7)))...).problem(403, "forbidden")
	s.get("/entities/orders/7", as(token(t, 7, only("entity:orders:8")))...).problem(403, "forbidden")
}

// TestAuth_Figures: /stats and /metrics are for admins.
func TestAuth_Figures(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t))
	for _, path := range []string{"/stats", "/metrics"} {
		s.get(path, "Authorization", "Bearer "+token(t, 7)).problem(403, "forbidden", "a user may not")
		s.get(path, "Authorization", "Bearer "+token(t, 7, forExecution(1))).problem(403, "forbidden")
		s.get(path, "Authorization", "Bearer "+token(t, 7, admin, only("entity_type:orders"))).problem(403, "forbidden")
		s.get(path, "Authorization", "Bearer "+token(t, 7, admin)).want(200)
	}
	text := s.get("/metrics", "Authorization", "Bearer "+token(t, 7, admin)).want(200).body
	for _, series := range []string{`attune_refused_total{code="unauthenticated"} 0`, `attune_refused_total{code="forbidden"} 6`, `attune_refused_total{code="over_capacity"} 0`} {
		if !strings.Contains(text, series+"\n") {
			t.Errorf("no %s in %s", series, text)
		}
	}
}
