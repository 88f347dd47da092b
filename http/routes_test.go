package http_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestRoutes_Unknown(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, path := range []string{
		"/nowhere", "/ws/", "/events/x", "/executions/1/2", "/executions/1/cancel/x", "//", "/livez/", "/metrics.txt", "/static/app.js", "/%2e%2e/etc/passwd", "/ümlaut",
	} {
		s.get(path).problem(404, "not_found", "no such path")
		s.do("PUT", path, "").problem(404, "not_found", "no such path")
		s.do("NONSENSE", path, "").problem(404, "not_found", "no such path")
		s.do("HEAD", path, "").want(404)
	}
}

func TestRoutes_Methods(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	for path, allow := range map[string]string{
		"/": "GET, HEAD", "/attune.js": "GET, HEAD", "/assets/any/app.js": "GET, HEAD", "/entities": "GET, HEAD", "/entities/orders": "GET, HEAD", "/ws": "GET, HEAD", "/events": "GET, HEAD", "/livez": "GET, HEAD", "/readyz": "GET, HEAD",
		"/health": "GET, HEAD", "/stats": "GET, HEAD", "/metrics": "GET, HEAD", "/executions": "GET, HEAD, POST", "/executions/1": "GET, HEAD",
		"/executions/1/cancel": "POST",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"} {
			if strings.Contains(allow, method) {
				continue
			}
			a := k.do(method, path, "")
			equal(t, method+" "+path, a.header.Values("Allow"), []string{allow})
			if a.want(405); method != "HEAD" {
				a.problem(405, "method_not_allowed", method)
			}
		}
	}
	for _, path := range []string{"/", "/livez", "/readyz", "/health", "/stats", "/metrics"} {
		equal(t, "body of HEAD "+path, k.do("HEAD", path, "").want(200).body, "")
	}
}

func TestRoutes_Page(t *testing.T) {
	t.Parallel()
	s := start(t)
	a := s.get("/").want(200)
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'self'") {
		t.Errorf("headers %v", a.header)
	}
	s.get("/attune.js").want(200)
	found := regexp.MustCompile(`src="(assets/([0-9a-f]+)/app\.js)"`).FindStringSubmatch(a.body)
	if found == nil {
		t.Fatalf("the page names no script:\n%s", a.body)
	}
	for path, keep := range map[string]string{
		"/": "no-cache", "/attune.js": "no-cache", "/" + found[1]: "immutable", "/assets/older/app.js": "no-cache",
		"/assets/" + found[2] + "/vendor/uplot/uplot.js": "immutable",
	} {
		a := s.get(path).want(200)
		if got := a.header.Get("Cache-Control"); !strings.Contains(got, keep) {
			t.Errorf("%s: Cache-Control %q, want %s", path, got, keep)
		}
		if strings.HasSuffix(path, ".js") {
			equal(t, "type of "+path, a.header.Get("Content-Type"), "text/javascript; charset=utf-8")
		}
		equal(t, "body of "+path+" where it is known", s.get(path, "If-None-Match", a.header.Get("ETag")).want(304).body, "")
	}
	for _, path := range []string{"/app.js", "/index.html", "/assets/" + found[2] + "/index.html", "/assets/" + found[2] + "/"} {
		s.get(path).problem(404, "not_found", "no such path")
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	const listed = "https://app.example"
	s := start(t, func(cfg *setup) { cfg.AllowedOrigins = []string{"https://other.example", listed} })
	paths := []string{"/", "/ws", "/events", "/executions", "/executions/1", "/livez", "/readyz", "/health", "/stats", "/metrics", "/nowhere"}

	t.Run("Foreign", func(t *testing.T) {
		s := s.in(t)
		for _, path := range paths {
			for _, origin := range []string{"https://evil.example", "null", "https://app.example.evil.example", "http://app.example", "https://app.example:8443", "::", "http://" + s.addr + "0"} {
				for _, method := range []string{"GET", "POST", "OPTIONS"} {
					a := s.do(method, path, "", "Origin", origin, "Access-Control-Request-Method", "GET")
					a.problem(403, "forbidden", origin, "ATTUNE_ALLOWED_ORIGINS")
					equal(t, "allowed", a.header.Get("Access-Control-Allow-Origin"), "")
				}
			}
		}
	})

	t.Run("Own", func(t *testing.T) {
		s := s.in(t)
		s.get("/livez", "Origin", s.url).want(200)
		s.get("/livez", "Origin", "https://Attune.Example", "Host", "attune.example").want(200) // TLS ends before us
		equal(t, "allowed", s.get("/livez").want(200).header.Get("Access-Control-Allow-Origin"), "")
		equal(t, "vary", s.get("/livez").header.Get("Vary"), "Origin")
	})

	t.Run("Listed", func(t *testing.T) {
		s := s.in(t)
		for _, path := range paths {
			if path == "/events" {
				continue
			}
			s.allowed(s.get(path, "Origin", listed).header, listed)
		}
		st := s.events("", "Origin", listed)
		s.allowed(st.resp.Header, listed)
		s.socket("/ws", "Origin", listed).next()
	})

	t.Run("Preflight", func(t *testing.T) {
		s := s.in(t)
		for _, path := range paths {
			a := s.do(http.MethodOptions, path, "", "Origin", listed, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
			s.allowed(a.want(204).header, listed)
			equal(t, "methods", a.header.Get("Access-Control-Allow-Methods"), "GET, HEAD, POST, DELETE")
			for _, name := range []string{"Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"} {
				if !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), name) {
					t.Errorf("%s is not allowed", name)
				}
			}
		}
	})
}

// allowed checks that a page of that origin may read the answer.
func (s *server) allowed(header http.Header, origin string) {
	s.t.Helper()
	equal(s.t, "origin", header.Values("Access-Control-Allow-Origin"), []string{origin})
	equal(s.t, "credentials", header.Get("Access-Control-Allow-Credentials"), "true")
	equal(s.t, "vary", header.Get("Vary"), "Origin")
	for _, name := range []string{"Attune-Cursor", "ETag", "Location"} {
		if !strings.Contains(header.Get("Access-Control-Expose-Headers"), name) {
			s.t.Errorf("%s is hidden", name)
		}
	}
}

// TestHost: a page whose name was made to lead to a loopback address is of its own
// origin there, and must get nothing all the same.
func TestHost(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *setup) {
		cfg.LoopbackOnly = true
		cfg.AllowedOrigins = []string{"https://app.example"}
	})
	for _, host := range []string{"evil.example", "evil.example:8081", "localhost.evil.example", "EVIL.example.:80", "127.0.0.1.evil.example"} {
		for _, path := range []string{"/", "/events", "/ws", "/executions", "/stats", "/livez"} {
			s.in(t).get(path, "Host", host, "Origin", "http://"+host).problem(403, "forbidden", "ATTUNE_ALLOWED_ORIGINS")
		}
	}
	for _, host := range []string{"localhost", "LOCALHOST:8081", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081", "[::1]", "app.example", "a.localhost:1", "attune"} {
		s.in(t).get("/livez", "Host", host).want(200)
	}
}

// TestProblem_Readable: people read the <type> of a message, not its escape.
func TestProblem_Readable(t *testing.T) {
	t.Parallel()
	a := start(t).get("/events?filter=bad")
	a.problem(400, "invalid_filter", "entity_type:<type>")
	if strings.Contains(a.body, `\u003c`) {
		t.Errorf("escaped: %s", a.body)
	}
}
