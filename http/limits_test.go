package http_test

import (
	"bufio"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	attunehttp "attune/http"
)

func TestLimits_Rates(t *testing.T) {
	t.Parallel()
	t.Run("Identity", func(t *testing.T) {
		s := start(t, withAuth(t), func(cfg *setup) { cfg.RequestRate = 1 })
		seven := []string{"Authorization", "Bearer " + token(t, 7)}
		limited := func() bool {
			a := s.get("/session", seven...)
			if a.status == 200 {
				return false
			}
			a.problem(429, "over_capacity", "1 a second")
			equal(t, "Retry-After", a.header.Get("Retry-After"), "1")
			return true
		}
		eventually(t, "too many", limited)
		s.get("/session", "Authorization", "Bearer "+token(t, 8)).want(200)
		s.get("/livez").want(200)
		eventually(t, "later", func() bool { return !limited() })
	})

	t.Run("Address", func(t *testing.T) {
		s := start(t, func(cfg *setup) {
			cfg.RequestRatePerAddress = 1
			cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		eventually(t, "too many", func() bool { return s.get("/livez", "X-Forwarded-For", "192.0.2.1").status == 429 })
		s.get("/livez", "X-Forwarded-For", "192.0.2.2").want(200)
		s.get("/livez").want(200)
	})

	t.Run("Subscribe", func(t *testing.T) {
		s := start(t, func(cfg *setup) { cfg.SubscribeRate = 1 })
		c := s.welcomed("/ws")
		c.subscribe("entity:a:1")
		c.subscribe("entity:a:2")
		c.send(`{"type":"subscribe","filter":"entity:a:3"}`)
		c.refused("over_capacity", "1 a second")
		c.send(`{"type":"ping"}`)
		c.want(map[string]any{"type": "pong"})
		eventually(t, "later", func() bool {
			c.send(`{"type":"unsubscribe","filter":"entity:a:1"}`)
			return c.next()["type"] == "unsubscribed"
		})
	})
}

func TestLimits_ConnectionsOfIdentity(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t), func(cfg *setup) { cfg.MaxPerUser = 2 })
	seven := []string{"Authorization", "Bearer " + token(t, 7)}
	s.opened("", seven...)
	second := s.opened("", "Authorization", "Bearer "+token(t, 7, admin)) // another token, the same identity
	s.get("/events", seven...).problem(503, "over_capacity", "one user")
	s.opened("", "Authorization", "Bearer "+token(t, 8))
	second.resp.Body.Close()
	eventually(t, "there is room again", func() bool {
		st, err := s.try(http.MethodHead, "/events", "", seven...)
		return err == nil && st.status == 200
	})
}

// TestLimits_ForwardedFor: addresses are believed as far as trusted proxies tell them.
func TestLimits_ForwardedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		proxies []string
		one     []string
		another []string
		same    bool
	}{
		"Untrusted": {nil, []string{"X-Forwarded-For", "192.0.2.1"}, []string{"X-Forwarded-For", "192.0.2.2"}, true},
		"Elsewhere": {[]string{"10.0.0.0/8"}, []string{"X-Forwarded-For", "192.0.2.1"}, []string{"X-Forwarded-For", "192.0.2.2"}, true},
		"Trusted":   {[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "192.0.2.1"}, []string{"X-Forwarded-For", "192.0.2.2"}, false},
		"Spoofed": { // what stands before the last address that is no proxy's, the client wrote
			[]string{"127.0.0.1"},
			[]string{"X-Forwarded-For", "203.0.113.1, 192.0.2.1"},
			[]string{"X-Forwarded-For", "203.0.113.2, 192.0.2.1"},
			true,
		},
		"Chain": {
			[]string{"127.0.0.1", "10.0.0.0/8"},
			[]string{"X-Forwarded-For", "192.0.2.1", "X-Forwarded-For", "10.1.2.3"},
			[]string{"X-Forwarded-For", "192.0.2.1, 10.9.9.9"},
			true,
		},
		"Mapped":  {[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "::ffff:192.0.2.1"}, []string{"X-Forwarded-For", "192.0.2.1"}, true},
		"IPv6":    {[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "2001:db8::1"}, []string{"X-Forwarded-For", "2001:db8::ffff:2"}, true},
		"IPv6Not": {[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "2001:db8::1"}, []string{"X-Forwarded-For", "2001:db8:0:1::1"}, false},
		"Garbage": {[]string{"127.0.0.1"}, []string{"X-Forwarded-For", "192.0.2.1, x"}, []string{"X-Forwarded-For", "192.0.2.2, 1.2.3.4:80"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxies, err := attunehttp.ParseProxies(c.proxies)
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, func(cfg *setup) { cfg.MaxPerAddress, cfg.TrustedProxies = 1, proxies })
			s.opened("", c.one...)
			if a := s.do(http.MethodHead, "/events", "", c.another...); (a.status == 503) != c.same {
				t.Errorf("status %d", a.status)
			}
		})
	}
	for _, bad := range []string{"", "10.0.0.0/33", "proxy", "10.0.0.1:80", "fe80::1%eth0"} {
		if _, err := attunehttp.ParseProxies([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestLimits_ForwardedProto: the cookie is for encrypted connections where those are
// encrypted; and so is the page's origin.
func TestLimits_ForwardedProto(t *testing.T) {
	t.Parallel()
	s := start(t, withAuth(t), func(cfg *setup) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	bearer := []string{"Authorization", "Bearer " + token(t, 7)}
	for proto, secure := range map[string]bool{"https": true, "http, HTTPS": true, "https, http": false, "http": false, "": false} {
		a := s.do("POST", "/session", "", append(bearer, "X-Forwarded-Proto", proto)...).want(200)
		if got := strings.Contains(a.header.Get("Set-Cookie"), "Secure"); got != secure {
			t.Errorf("X-Forwarded-Proto %q: %s", proto, a.header.Get("Set-Cookie"))
		}
	}
	s.get("/livez", "Origin", s.url).want(200)
	s.get("/livez", "Origin", s.url, "X-Forwarded-Proto", "https").problem(403, "forbidden")
	s.get("/livez", "Origin", "https://"+s.addr, "X-Forwarded-Proto", "https").want(200)
}

// TestLimits_SlowBody: a body that does not come holds nothing for long.
func TestLimits_SlowBody(t *testing.T) {
	t.Parallel()
	k := startStack(t, true)
	for _, path := range []string{"/executions", "/executions/1/cancel"} {
		t.Run(strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
			t.Parallel()
			c := k.in(t).raw("POST " + path + " HTTP/1.1\r\nHost: attune\r\nContent-Length: 100\r\n\r\n{")
			_ = c.conn.SetDeadline(time.Now().Add(3 * patience))
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode/100 != 4 {
				t.Errorf("answered %s", resp.Status)
			}
			if _, err := bufio.NewReader(c.conn).ReadByte(); err == nil {
				t.Error("the connection goes on")
			}
		})
	}
}
