package main_test

import (
	"net/http"
	"strings"
	"testing"
)

// A page of another origin reaches nothing, with a token, with a cookie or with neither,
// and is told nothing that it could read.
func TestAttack_Origins(t *testing.T) {
	t.Parallel()
	const listed = "https://app.example"
	x := withSecret(t, "ATTUNE_ALLOWED_ORIGINS="+listed)
	seven := x.user(7)
	port := x.addr[strings.LastIndex(x.addr, ":"):]
	origins := []string{
		"null", "https://evil.example", "http://evil.example", "http://" + x.addr + ".evil.example", "http://" + x.addr + "@evil.example", "http://evil.example/" + x.addr,
		"http://evil.example#" + x.addr, "http://evil.example?" + x.addr, `http://evil.example\@` + x.addr + `.evil.example`, "http://127.0.0.1:1", "http://127.0.0.1", "http://localhost" + port,
		"http://[::1]" + port, "http://0x7f000001" + port, "http://2130706433" + port, "file://", "file:///", "data:", "chrome-extension://abcdef", "javascript:alert(1)", "about:blank", "*",
		"https://app.example.evil.example", "https://evil-app.example", "https://sub.app.example", "http://app.example", "https://app.example:8443", "https://app.example.", "HTTPS://APP.EXAMPLE",
		"https://app.example/", "https://app.example, https://evil.example", "http://" + x.addr + ", http://evil.example", "http://" + x.addr + " http://evil.example",
	}
	for _, origin := range origins {
		for path, headers := range map[string][]string{
			"GET /ws":           upgradeTo("Cookie: attune_token=" + seven),
			"GET /ws ":          upgradeTo(bearer(seven)),
			"GET /events":       {"Cookie: attune_token=" + seven},
			"GET /session":      {"Cookie: attune_token=" + seven},
			"POST /tickets":     {"Cookie: attune_token=" + seven, "Content-Length: 0"},
			"DELETE /session":   {"Cookie: attune_token=" + seven},
			"OPTIONS /events":   {"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"},
			"GET /livez":        nil,
			"POST /executions ": {"Cookie: attune_token=" + seven, "Content-Type: text/plain", "Content-Length: 0"},
		} {
			method, path, _ := strings.Cut(strings.TrimSpace(path), " ")
			status, header, body := x.ask(t, method, path, append([]string{"Origin: " + origin}, headers...)...)
			if status != http.StatusForbidden && status != http.StatusBadRequest {
				t.Errorf("%s %s from %q: %d %s", method, path, origin, status, body)
			}
			if allowed := header.Values("Access-Control-Allow-Origin"); len(allowed) > 0 {
				t.Errorf("%s %s from %q: Access-Control-Allow-Origin %q", method, path, origin, allowed)
			}
		}
	}
	for _, second := range [][]string{{"Origin: http://" + x.addr, "Origin: http://evil.example"}, {"Origin: http://evil.example", "Origin: http://" + x.addr}} {
		if status, _, body := x.ask(t, http.MethodGet, "/ws", upgradeTo(append(second, "Cookie: attune_token="+seven)...)...); status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("two origins, %q: %d %s", second, status, body)
		}
	}
	for _, origin := range []string{listed, "http://" + x.addr} {
		if status, header, body := x.ask(t, http.MethodGet, "/ws", upgradeTo("Origin: "+origin, "Cookie: attune_token="+seven)...); status != http.StatusSwitchingProtocols ||
			(origin == listed) != (header.Get("Access-Control-Allow-Origin") == listed) {
			t.Errorf("from %q: %d %s", origin, status, body)
		}
	}
	t.Logf("%d origins, each by 9 calls", len(origins))
}

// A page that has a user's browser send his cookie changes nothing.
func TestAttack_CookieForgery(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	seven := x.user(7)
	status, header, _ := x.ask(t, http.MethodPost, "/session", bearer(seven), "Content-Length: 0")
	set := header.Get("Set-Cookie")
	if status != http.StatusOK || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Strict") || !strings.Contains(set, "Path=/") {
		t.Fatalf("POST /session: %d, Set-Cookie %q", status, strings.ReplaceAll(set, seven, "…"))
	}
	cookie := "Cookie: attune_token=" + seven
	for _, proof := range []string{"X: nothing", "Origin:", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Sec-Fetch-Site: none", "Sec-Fetch-Site: Same-Origin", "Referer: http://" + x.addr + "/", "Origin: null", "X-Requested-With: XMLHttpRequest", "X-Forwarded-Host: " + x.addr} {
		for _, call := range []string{"POST /tickets", "POST /executions", "POST /executions/1/cancel", "POST /session", "DELETE /session"} {
			method, path, _ := strings.Cut(call, " ")
			status, _, body := x.ask(t, method, path, cookie, proof, "Content-Type: text/plain", "Content-Length: 0")
			if status != http.StatusForbidden {
				t.Errorf("%s with the cookie and %q: %d %s", call, proof, status, body)
			}
		}
	}
	for _, site := range []string{"cross-site", "same-site"} {
		for _, path := range []string{"/session", "/events", "/ws"} {
			if status, _, body := x.ask(t, http.MethodGet, path, upgradeTo(cookie, "Sec-Fetch-Site: "+site)...); status != http.StatusForbidden {
				t.Errorf("GET %s embedded %s: %d %s", path, site, status, body)
			}
		}
	}
	own := "Origin: http://" + x.addr
	for name, tt := range map[string]struct {
		call    string
		headers []string
		want    int
	}{
		"the page's own call":        {"POST /tickets", []string{cookie, own}, http.StatusCreated},
		"two cookies":                {"GET /session", []string{cookie + "; attune_token=" + x.user(8)}, http.StatusBadRequest},
		"a session from a session":   {"POST /session", []string{cookie, own}, http.StatusForbidden},
		"a cookie of another name":   {"GET /session", []string{"Cookie: ATTUNE_TOKEN=" + seven}, http.StatusUnauthorized},
		"a method by another header": {"GET /session", []string{"X-HTTP-Method-Override: DELETE", "Cookie: x=y"}, http.StatusUnauthorized},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		status, _, body := x.ask(t, method, path, append(tt.headers, "Content-Length: 0")...)
		if status != tt.want {
			t.Errorf("%s: %d, want %d: %s", name, status, tt.want, body)
		}
		if status == http.StatusCreated {
			x.hide(decode[struct{ Ticket string }](t, body).Ticket)
		}
	}
	x.wellStill(t)
}
