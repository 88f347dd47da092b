package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// forgery is a token that must not let anybody in.
type forgery struct{ name, token string }

// refuses tries each forgery by every way in: all are 401, or an oversized one 431, and no
// answer repeats it.
func (x *target) refuses(t *testing.T, forgeries []forgery) {
	t.Helper()
	for _, f := range forgeries {
		x.hide(f.token)
		for way, ask := range map[string]struct {
			path    string
			headers []string
		}{
			"bearer":      {"/session", []string{bearer(f.token)}},
			"events":      {"/events", []string{bearer(f.token)}},
			"cookie":      {"/session", []string{"Cookie: attune_token=" + f.token}},
			"handshake":   {"/ws", upgradeTo(bearer(f.token))},
			"subprotocol": {"/ws", upgradeTo("Sec-WebSocket-Protocol: attune.v1, attune.jwt." + f.token)},
		} {
			status, header, body := x.ask(t, http.MethodGet, ask.path, ask.headers...)
			if status != http.StatusUnauthorized && (len(f.token) < 30<<10 || status != http.StatusRequestHeaderFieldsTooLarge) {
				t.Errorf("%s as %s: %d %s", f.name, way, status, body)
			}
			if said := body + fmt.Sprint(header); f.token != "" && strings.Contains(said, f.token) {
				t.Errorf("%s as %s: the answer repeats the token", f.name, way)
			}
		}
	}
}

// Tokens that somebody makes without the secret, and those made with it for other things.
func TestAttack_TokensBySecret(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	now := time.Now().Unix()
	right, nothing := byHMAC(jwtSecret), func([]byte) []byte { return nil }
	claims := func(format string, args ...any) string {
		return forge(headerHS256, fmt.Sprintf(format, args...), right)
	}
	with := func(more string) string { return forge(headerHS256, claimsOf(7, more), right) }
	header := func(more string) string {
		return forge(`{"alg":"HS256","typ":"JWT",`+more+`}`, claimsOf(7, ""), byHMAC("the attacker's own secret, of a good length"))
	}
	good := x.user(7)
	if status, _, body := x.ask(t, http.MethodGet, "/session", bearer(good)); status != http.StatusOK || !strings.Contains(body, `"user_id":7`) {
		t.Fatalf("a good token: %d %s", status, body)
	}
	parts := strings.Split(good, ".")
	forgeries := []forgery{
		{"empty", ""},
		{"no token", "let-me-in"},
		{"another secret", forge(headerHS256, claimsOf(7, ""), byHMAC("another secret that is long enough for anybody"))},
		{"the empty secret", forge(headerHS256, claimsOf(7, ""), byHMAC(""))},
		{"no signature", forge(headerHS256, claimsOf(7, ""), nothing)},
		{"another's claims under a good signature", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claimsOf(1, `,"roles":["admin"]`))) + "." + parts[2]},
		{"two parts", parts[0] + "." + parts[1]},
		{"four parts", good + "." + parts[2]},
		{"five parts, as encrypted ones have", good + ".x.y"},
		{"padded", good + "="},
		{"loose last bits", good[:len(good)-1] + string(good[len(good)-1]^1)},
		{"a shortened signature", good[:len(good)-3]},
		{"expired", claims(`{"sub":"7","iss":%q,"aud":%q,"exp":%d}`, attackIssuer, attackAudience, now-60)},
		{"never expires", claims(`{"sub":"7","iss":%q,"aud":%q}`, attackIssuer, attackAudience)},
		{"exp null", claims(`{"sub":"7","iss":%q,"aud":%q,"exp":null}`, attackIssuer, attackAudience)},
		{"exp under another name", claims(`{"sub":"7","iss":%q,"aud":%q,"EXP":%d}`, attackIssuer, attackAudience, now+3600)},
		{"not yet", with(fmt.Sprintf(`,"nbf":%d`, now+600))},
		{"another issuer", claims(`{"sub":"7","iss":"https://evil.example","aud":%q,"exp":%d}`, attackAudience, now+3600)},
		{"no issuer", claims(`{"sub":"7","aud":%q,"exp":%d}`, attackAudience, now+3600)},
		{"another audience", claims(`{"sub":"7","iss":%q,"aud":"another","exp":%d}`, attackIssuer, now+3600)},
		{"audience in another case", claims(`{"sub":"7","iss":%q,"aud":"ATTUNE","exp":%d}`, attackIssuer, now+3600)},
		{"no audience", claims(`{"sub":"7","iss":%q,"exp":%d}`, attackIssuer, now+3600)},
		{"refresh token", with(`,"token_type":"refresh"`)},
		{"worker token", with(`,"token_type":"worker"`)},
		{"sensor token", with(`,"token_type":"sensor"`)},
		{"access in another case", with(`,"token_type":"Access"`)},
		{"execution token for none", with(`,"token_type":"execution"`)},
		{"crit", forge(`{"alg":"HS256","crit":["b64"],"b64":false}`, claimsOf(7, ""), right)},
		{"roles as text", with(`,"roles":"admin"`)},
		{"claims are a list", forge(headerHS256, `["7"]`, right)},
		{"claims are null", forge(headerHS256, `null`, right)},
		{"16 KiB and more", with(`,"x":"` + strings.Repeat("a", 16<<10) + `"`)},
		{"more than headers may have", "e30.e30." + strings.Repeat("a", 60<<10)},
		{"embedded key", header(`"jwk":{"kty":"oct","k":"dGhlIGF0dGFja2VyJ3Mgb3duIHNlY3JldCwgb2YgYSBnb29kIGxlbmd0aA"}`)},
		{"key from a file", header(`"kid":"../../../../../../dev/null"`)},
		{"key from SQL", header(`"kid":"x' UNION SELECT 'the attacker''s own secret, of a good length'--"`)},
		{"empty key of an empty kid", forge(`{"alg":"HS256","kid":""}`, claimsOf(7, ""), byHMAC(""))},
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "HS384", "HS512", "hs256", "RS256", "ES256", "EdDSA", "PS256", "HS256\u0000"} {
		for name, sign := range map[string]func([]byte) []byte{"unsigned": nothing, "signed": right} {
			forgeries = append(forgeries, forgery{fmt.Sprintf("alg %q, %s", alg, name), forge(fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, alg), claimsOf(7, ""), sign)})
		}
	}
	for _, head := range []string{`{}`, `{"alg":null}`, `{"alg":["HS256"]}`, `{"alg":"HS256","alg":"none"}`, `{"alg":"none","alg":"HS256"}`, `null`, `[]`} {
		forgeries = append(forgeries, forgery{"header " + head, forge(head, claimsOf(7, ""), nothing)})
	}
	for _, sub := range []string{`""`, `"007"`, `"+7"`, `" 7"`, `"7 "`, `"٧"`, `"７"`, `"7.0"`, `"0x7"`, `"9223372036854775808"`, `"-0"`, `7`, `null`, `["7"]`, `"7\u0000"`} {
		forgeries = append(forgeries, forgery{"sub " + sub, claims(`{"sub":%s,"iss":%q,"aud":%q,"exp":%d}`, sub, attackIssuer, attackAudience, now+3600)})
	}
	x.refuses(t, forgeries)
	t.Logf("%d forgeries, each by 5 ways in", len(forgeries))

	// A claim that is there twice: the last counts, as RFC 7519 has it, for all who look.
	for more, want := range map[string]string{`,"sub":"8"`: `{"user_id":8,"admin":false`, `,"roles":["admin"],"roles":[]`: `{"user_id":7,"admin":false`} {
		if status, _, body := x.ask(t, http.MethodGet, "/session", bearer(x.hide(with(more)))); status != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("/session with %s: %d %s", more, status, body)
		}
	}
	// What only looks like an admin is none.
	for _, more := range []string{`,"roles":["Admin"]`, `,"roles":["admin "]`, `,"Roles":["admin"]`, `,"role":"admin"`, `,"token_type":"execution","metadata":{"execution_id":1},"roles":["admin"]`} {
		if status, _, body := x.ask(t, http.MethodGet, "/stats", bearer(x.hide(with(more)))); status != http.StatusForbidden {
			t.Errorf("/stats with %s: %d %s", more, status, body)
		}
	}
	// Two at once: neither is believed.
	for name, headers := range map[string][]string{
		"two bearers":            {bearer(good), bearer(good)},
		"bearer and subprotocol": {bearer(good), "Sec-WebSocket-Protocol: attune.v1, attune.jwt." + good},
		"two subprotocols":       {"Sec-WebSocket-Protocol: attune.jwt." + good + ", attune.jwt." + good},
	} {
		if status, _, body := x.ask(t, http.MethodGet, "/ws", upgradeTo(headers...)...); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	x.wellStill(t)
}

// Where tokens are signed with a private key, nothing else signs them, and a token does
// not say where its key is.
func TestAttack_TokensByPublicKey(t *testing.T) {
	t.Parallel()
	key, mine := newKey(t), newKey(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	file := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	x := attacked(t, "ATTUNE_JWT_PUBLIC_KEY_FILE="+file)

	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, `{"keys":[%s]}`, jwkOf(t, mine))
	}))
	t.Cleanup(elsewhere.Close)

	if status, _, body := x.ask(t, http.MethodGet, "/session", bearer(x.hide(forge(`{"alg":"ES256"}`, claimsOf(7, ""), byECDSA(t, key))))); status != http.StatusOK {
		t.Fatalf("a good token: %d %s", status, body)
	}
	byMine := func(more string) string {
		return forge(`{"alg":"ES256"`+more+`}`, claimsOf(7, ""), byECDSA(t, mine))
	}
	cert := base64.StdEncoding.EncodeToString(der)
	forgeries := []forgery{
		{"another key", byMine("")},
		{"its own key in jwk", byMine(`,"jwk":` + jwkOf(t, mine))},
		{"its own key at jku", byMine(fmt.Sprintf(`,"jku":%q`, elsewhere.URL))},
		{"its own key at x5u", byMine(fmt.Sprintf(`,"x5u":%q`, elsewhere.URL))},
		{"its own key at kid", byMine(fmt.Sprintf(`,"kid":%q`, elsewhere.URL))},
		{"x5c", byMine(fmt.Sprintf(`,"x5c":[%q]`, cert))},
		{"kid of a file", byMine(`,"kid":"/proc/self/environ"`)},
		{"a signature of zeros", forge(`{"alg":"ES256"}`, claimsOf(7, ""), func([]byte) []byte { return make([]byte, 64) })},
		{"an empty signature", forge(`{"alg":"ES256"}`, claimsOf(7, ""), func([]byte) []byte { return nil })},
		{"a long signature", forge(`{"alg":"ES256"}`, claimsOf(7, ""), func([]byte) []byte { return make([]byte, 8192) })},
		{"none", forge(`{"alg":"none"}`, claimsOf(7, ""), func([]byte) []byte { return nil })},
	}
	for name, secret := range map[string]string{
		"its PEM": text, "its PEM without the last line end": strings.TrimSpace(text), "its DER": string(der), "its base64": cert,
		"the secret of others": jwtSecret, "nothing": "",
	} {
		forgeries = append(forgeries,
			forgery{"HS256 with " + name, forge(headerHS256, claimsOf(7, ""), byHMAC(secret))},
			forgery{"ES256 by HMAC with " + name, forge(`{"alg":"ES256"}`, claimsOf(7, ""), byHMAC(secret))})
	}
	x.refuses(t, forgeries)
	if n := asked.Load(); n != 0 {
		t.Errorf("the server has fetched a key %d times from where a token told it to", n)
	}
	t.Logf("%d forgeries, each by 5 ways in; no key fetched", len(forgeries))
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// byECDSA signs as ES256 does.
func byECDSA(t *testing.T, key *ecdsa.PrivateKey) func([]byte) []byte {
	t.Helper()
	return func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

func jwkOf(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Error(err)
		return ""
	}
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`,
		base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))
}

// A ticket is for one use, however many try at once, and hands on no more than its
// taker's rights.
func TestAttack_Tickets(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	seven := x.user(7)
	take := func() string {
		status, _, body := x.ask(t, http.MethodPost, "/tickets", bearer(seven), "Content-Length: 0")
		if status != http.StatusCreated {
			t.Fatalf("POST /tickets: %d %s", status, body)
		}
		return x.hide(decode[struct{ Ticket string }](t, body).Ticket)
	}
	status := func(path string, headers ...string) int {
		status, _, _ := x.ask(t, http.MethodGet, path, headers...)
		return status
	}
	expect := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}

	ticket := take()
	for what, spelled := range map[string]string{
		"shortened": ticket[:len(ticket)-1], "padded": ticket + "%3D", "lengthened": ticket + "A", "spaced": "%20" + ticket, "reversed case": swapCase(ticket),
		"ended early": ticket + "%00", "empty": "", "none": strings.Repeat("A", 43),
	} {
		expect("a ticket that is "+what, status("/events?ticket="+spelled), http.StatusUnauthorized)
	}
	expect("as bearer", status("/events", bearer(ticket)), http.StatusUnauthorized)
	expect("elsewhere", status("/session?ticket="+ticket), http.StatusBadRequest)
	expect("twice", status("/events?ticket="+ticket+"&ticket="+ticket), http.StatusBadRequest)
	expect("beside a token", status("/events?ticket="+ticket, bearer(seven)), http.StatusBadRequest)
	expect("none of that used it up", status("/events?ticket="+ticket), http.StatusOK)
	expect("the second use", status("/events?ticket="+ticket), http.StatusUnauthorized)
	expect("the third, as WebSocket", status("/ws?ticket="+ticket, upgradeTo()...), http.StatusUnauthorized)
	expect("another's filter", status("/events?filter=user:8&ticket="+take()), http.StatusForbidden)

	for _, name := range []string{"token", "access_token", "jwt"} {
		got, _, body := x.ask(t, http.MethodGet, "/events?"+name+"="+seven)
		if got != http.StatusBadRequest || !strings.Contains(body, "/tickets") || strings.Contains(body, seven) {
			t.Errorf("?%s=: %d %s", name, got, body)
		}
	}

	const rounds, racers = 10, 32
	for range rounds {
		ticket := take()
		statuses := make([]int, racers)
		ready := make(chan struct{})
		var all sync.WaitGroup
		for i := range racers {
			path, headers := "/events?ticket="+ticket, []string(nil)
			if i%2 == 1 {
				path, headers = "/ws?ticket="+ticket, upgradeTo()
			}
			all.Go(func() {
				<-ready
				statuses[i], _, _ = x.ask(t, http.MethodGet, path, headers...)
			})
		}
		close(ready)
		all.Wait()
		won := 0
		for _, got := range statuses {
			if got == http.StatusOK || got == http.StatusSwitchingProtocols {
				won++
			} else if got != http.StatusUnauthorized {
				t.Errorf("a loser gets %d", got)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d used one ticket", won, racers)
		}
	}
	t.Logf("%d tickets, each used by %d at once: one has won each time", rounds, racers)
}

func swapCase(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, text)
}
