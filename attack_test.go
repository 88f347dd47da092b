package main_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/http/wstest"
	"attune/pg/pgtest"
)

// The tests of the files attack_*_test.go do to the real binary, over the network and
// with authentication on, what somebody would who wants in, wants what is another's, or
// wants the server gone. What holds is written in SECURITY.md and in section 8 of
// docs/protocol.md. `make test-attacks` runs them with all the junk.

// junk is how many junk frames, and how many junk requests, are sent.
//
//nolint:gochecknoglobals // flags must be there before the tests are
var junk = flag.Int("junk", 5000, "junk frames and junk requests that the attack tests send")

// What the servers under attack ask of a token.
const (
	attackIssuer   = "https://issuer.example"
	attackAudience = "attune"
	attackChannel  = "orders_changed"
)

// target is a server under attack.
type target struct {
	*server
	addr string
	db   *pgx.Conn

	mu      sync.Mutex
	secrets []string // what its log must not have
}

// attacked starts a server with authentication on. When t ends the server must have
// ended as it should, and its log must tell of no failure and of no secret.
func attacked(t *testing.T, env ...string) *target {
	t.Helper()
	x := &target{secrets: []string{jwtSecret}}
	t.Cleanup(func() { // after the server's end
		if x.server != nil {
			x.checkLog(t)
		}
	})
	database := pgtest.Database(t)
	x.server = serve(t, append([]string{
		"DATABASE_URL=" + database, "ATTUNE_CHANNELS=" + attackChannel, "ATTUNE_LOG_LEVEL=debug", "ATTUNE_CANARY_INTERVAL=1s",
		"ATTUNE_JWT_ISSUER=" + attackIssuer, "ATTUNE_JWT_AUDIENCE=" + attackAudience,
	}, env...)...)
	x.addr = strings.TrimPrefix(x.url, "http://")
	x.db = pgtest.Connect(t, database)
	return x
}

// withSecret starts one whose tokens are signed with jwtSecret.
func withSecret(t *testing.T, env ...string) *target {
	t.Helper()
	return attacked(t, append([]string{"ATTUNE_JWT_SECRET=" + jwtSecret}, env...)...)
}

func (x *target) checkLog(t *testing.T) {
	t.Helper()
	log := x.stdout.String() + x.stderr.String()
	for _, bad := range []string{"DATA RACE", "panic", "level=ERROR"} {
		if strings.Contains(log, bad) {
			t.Errorf("the server's log has %q", bad)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, secret := range x.secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the server's log has the secret %.60q", secret)
		}
	}
}

// hide has text looked for in the log when the test ends; of a token also its parts.
func (x *target) hide(text string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, part := range append(strings.Split(text, "."), text) {
		if len(part) >= 20 {
			x.secrets = append(x.secrets, part)
		}
	}
	return text
}

// claimsOf is what a good token of a user says, in JSON without the last brace; more
// claims follow, each with a comma before it.
func claimsOf(user int, more string) string {
	return fmt.Sprintf(`{"sub":"%d","iss":%q,"aud":%q,"exp":%d%s}`, user, attackIssuer, attackAudience, time.Now().Add(time.Hour).Unix(), more)
}

// The header of a good token.
const headerHS256 = `{"alg":"HS256","typ":"JWT"}`

// forge makes a token of a header and claims; sign signs what is signed of them.
func forge(header, claims string, sign func(text []byte) []byte) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return text + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(text)))
}

// byHMAC signs with a secret.
func byHMAC(secret string) func([]byte) []byte {
	return func(text []byte) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(text)
		return mac.Sum(nil)
	}
}

// user returns a good token.
func (x *target) user(id int) string {
	return x.hide(forge(headerHS256, claimsOf(id, ""), byHMAC(jwtSecret)))
}

// admin returns a good token of an admin.
func (x *target) admin() string {
	return x.hide(forge(headerHS256, claimsOf(1, `,"roles":["admin"]`), byHMAC(jwtSecret)))
}

// bearer is the header for a token.
func bearer(token string) string { return "Authorization: Bearer " + token }

// ask makes a request with headers, each "Name: value", on a connection of its own, and
// returns the status, the header, and the body of what is no stream.
func (x *target) ask(t *testing.T, method, path string, headers ...string) (status int, header http.Header, body string) {
	t.Helper()
	resp := x.request(t, method, path, headers...)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.StatusCode, resp.Header, ""
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// request is ask for whoever reads the body himself, and closes it. The path and the
// headers go out as they are.
func (x *target) request(t *testing.T, method, path string, headers ...string) *http.Response {
	t.Helper()
	conn := dialSilent(t, x.server, method+" "+path+" HTTP/1.1\r\n"+strings.Join(append([]string{"Host: " + x.addr}, headers...), "\r\n")+"\r\n\r\n")
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %.200s: %v", method, path, err)
	}
	resp.Body = &connBody{resp.Body, conn}
	return resp
}

// connBody closes the connection with the body.
type connBody struct {
	io.ReadCloser
	conn net.Conn
}

func (b *connBody) Close() error { return errors.Join(b.conn.Close(), b.ReadCloser.Close()) }

// upgradeTo are the headers of a WebSocket's handshake.
func upgradeTo(headers ...string) []string {
	return append([]string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}, headers...)
}

// socket is the attacker's end of a WebSocket: it sends whatever it is told to.
type socket struct {
	conn net.Conn
	r    *bufio.Reader
}

// open opens a WebSocket. after goes out with the handshake, in the same write.
func (x *target) open(ctx context.Context, query, token string, after ...byte) (*socket, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", x.addr)
	if err != nil {
		return nil, err
	}
	text := "GET /ws" + query + " HTTP/1.1\r\nHost: " + x.addr + "\r\n" + strings.Join(upgradeTo(bearer(token)), "\r\n") + "\r\n\r\n"
	s := &socket{conn, bufio.NewReader(conn)}
	err = conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = conn.Write(append([]byte(text), after...))
	}
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(s.r, nil)
	}
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusSwitchingProtocols {
			err = fmt.Errorf("the handshake was answered with %s", resp.Status)
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// socket opens a WebSocket until t ends.
func (x *target) socket(t *testing.T, query, token string, after ...byte) *socket {
	t.Helper()
	s, err := x.open(t.Context(), query, token, after...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// send sends bytes. The server may have closed already: what it has said still counts.
func (s *socket) send(b []byte) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _ = s.conn.Write(b)
}

// text sends a text frame.
func (s *socket) text(message string) { s.send(wstest.Frame(wstest.Fin|wstest.Text, []byte(message))) }

// next reads a frame of the server's.
func (s *socket) next() (op byte, payload []byte, err error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	return wstest.Read(s.r)
}

// until reads messages until one contains text, and returns it.
func (s *socket) until(t *testing.T, text string) string {
	t.Helper()
	for {
		op, payload, err := s.next()
		if err != nil || op == wstest.Close {
			t.Fatalf("waiting for %q: opcode %#x %q, %v", text, op, payload, err)
		}
		if strings.Contains(string(payload), text) {
			return string(payload)
		}
	}
}

// closeCode reads to the end of the connection and returns the code that it was closed
// with, 0 if with none. Other than by its end it fails.
func (s *socket) closeCode() (code int, err error) {
	for {
		op, payload, err := s.next()
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return 0, fmt.Errorf("still open: %w", err)
		}
		if errors.Is(err, wstest.ErrFrame) {
			return 0, err
		}
		if err != nil {
			return code, nil //nolint:nilerr // closed, or reset as what it had sent was not read any more
		}
		if op == wstest.Close && len(payload) >= 2 {
			code = int(binary.BigEndian.Uint16(payload))
			_ = s.conn.(*net.TCPConn).CloseWrite()
		}
	}
}

// wellStill checks that the server serves others as ever.
func (x *target) wellStill(t *testing.T) {
	t.Helper()
	eventually(t, "/readyz is 200", func() bool { status, _ := x.get(t, "/readyz"); return status == http.StatusOK })
	s := x.socket(t, "?filter=user:77", x.user(77))
	s.until(t, `"subscribed"`)
	x.notify(t, `{"entity_type":"order","entity_id":77,"user_id":77}`)
	s.until(t, `"user_id":77`)
	s.text(`{"type":"ping"}`)
	s.until(t, `"pong"`)
	_ = s.conn.Close()
}

// notify sends a notification.
func (x *target) notify(t *testing.T, payload string) {
	t.Helper()
	if _, err := x.db.Exec(t.Context(), "SELECT pg_notify($1, $2)", attackChannel, payload); err != nil {
		t.Fatal(err)
	}
}

// figure reads a figure from /metrics.
func (x *target) figure(t *testing.T, name string) float64 {
	t.Helper()
	status, _, body := x.ask(t, http.MethodGet, "/metrics", bearer(x.admin()), "Connection: close")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("/metrics (%d) has no %s", status, name)
	return 0
}
