package http_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"attune/http/wstest"
)

// socket is a WebSocket as a well-behaved client has it.
type socket struct {
	t    testing.TB
	conn *websocket.Conn
	resp *http.Response
}

// socket opens a WebSocket that is cut when the test ends. Headers come in pairs.
func (s *server) socket(path string, headers ...string) *socket {
	s.t.Helper()
	opts := &websocket.DialOptions{HTTPClient: s.http, HTTPHeader: http.Header{}}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Sec-WebSocket-Protocol" { // the library's to send
			opts.Subprotocols = strings.Split(headers[i+1], ", ")
			continue
		}
		opts.HTTPHeader.Add(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, s.url+path, opts) //nolint:bodyclose // the connection's now
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{t: s.t, conn: conn, resp: resp}
}

// welcomed is socket, past the welcome.
func (s *server) welcomed(path string) *socket {
	s.t.Helper()
	c := s.socket(path)
	equal(s.t, "first frame", c.next()["type"], any("welcome"))
	return c
}

// send sends text frames.
func (c *socket) send(texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		if err := c.conn.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// next reads one frame.
func (c *socket) next() map[string]any {
	c.t.Helper()
	text, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return object(c.t, text)
}

func (c *socket) read() (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	kind, b, err := c.conn.Read(ctx)
	if err == nil && kind != websocket.MessageText {
		err = errors.New("a binary frame")
	}
	return string(b), err
}

// want reads one frame and compares it.
func (c *socket) want(want map[string]any) {
	c.t.Helper()
	equal(c.t, "frame", c.next(), want)
}

// subscribe subscribes and returns the acknowledgement's cursor.
func (c *socket) subscribe(filter string) string {
	c.t.Helper()
	c.send(`{"type":"subscribe","filter":"` + filter + `"}`)
	got := c.next()
	equal(c.t, "acknowledgement", []any{got["type"], got["filter"]}, []any{"subscribed", filter})
	cursor, _ := got["cursor"].(string)
	return cursor
}

// refused reads an error frame with that code, whose message contains the words.
func (c *socket) refused(code string, words ...string) {
	c.t.Helper()
	got := c.next()
	message, _ := got["message"].(string)
	delete(got, "message")
	equal(c.t, "error frame", got, map[string]any{"type": "error", "code": code})
	if message == "" {
		c.t.Error("no message")
	}
	for _, word := range words {
		if !strings.Contains(message, word) {
			c.t.Errorf("message %q does not name %q", message, word)
		}
	}
}

// ids reads n notifications and returns their entity ids.
func (c *socket) ids(n int) []int64 {
	c.t.Helper()
	list := make([]int64, 0, n)
	for range n {
		got := c.next()
		id, ok := got["entity_id"].(float64)
		if got["type"] != "notification" || !ok {
			c.t.Fatalf("got %v after %v, want a notification", got, list)
		}
		list = append(list, int64(id))
	}
	return list
}

// quiet proves that nothing is on the way: a pong overtakes nothing.
func (c *socket) quiet() {
	c.t.Helper()
	c.send(`{"type":"ping"}`)
	c.want(map[string]any{"type": "pong"})
}

// closed reads past what is left, to the close frame with that code and a reason.
func (c *socket) closed(code websocket.StatusCode) {
	c.t.Helper()
	for {
		_, err := c.read()
		if err == nil {
			continue
		}
		closed, ok := errors.AsType[websocket.CloseError](err)
		if !ok || closed.Code != code || closed.Reason == "" {
			c.t.Fatalf("ended with %v, want code %d and a reason", err, code)
		}
		return
	}
}

// raw is a TCP connection that says what no library would.
type raw struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// raw connects and sends text.
func (s *server) raw(text string) *raw {
	s.t.Helper()
	conn, err := s.dial(s.t.Context(), "tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return newRaw(s.t, conn, text)
}

// newRaw sends text on conn, which is closed when the test ends.
func newRaw(tb testing.TB, conn net.Conn, text string) *raw {
	tb.Helper()
	tb.Cleanup(func() { _ = conn.Close() })
	c := &raw{t: tb, conn: conn, r: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // shorter than a test may hang
	c.write([]byte(text))
	return c
}

// upgrade is what asks for a WebSocket.
func upgrade(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: attune\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// rawSocket is a raw connection after the handshake.
func (s *server) rawSocket(path string) *raw {
	s.t.Helper()
	c := s.raw(upgrade(path))
	c.upgraded()
	return c
}

// upgraded reads the answer to the handshake.
func (c *raw) upgraded() {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("handshake: %s", resp.Status)
	}
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// frame sends a frame.
func (c *raw) frame(fin bool, op byte, payload string) {
	c.t.Helper()
	if fin {
		op |= wstest.Fin
	}
	c.write(wstest.Frame(op, []byte(payload)))
}

// next reads a frame of the server's.
func (c *raw) next() (op byte, payload []byte, err error) { return wstest.Read(c.r) }

// text reads frames until a text frame, and decodes it.
func (c *raw) text() map[string]any {
	c.t.Helper()
	for {
		op, payload, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		if op == wstest.Text {
			return object(c.t, string(payload))
		}
	}
}

// closed reads to the close frame and returns its code.
func (c *raw) closed() websocket.StatusCode {
	c.t.Helper()
	for {
		op, payload, err := c.next()
		if err != nil {
			c.t.Fatalf("ended without a close frame: %v", err)
		}
		if op != wstest.Close {
			continue
		}
		if len(payload) < 3 {
			c.t.Fatalf("close frame %q: want a code and a reason", payload)
		}
		return websocket.StatusCode(binary.BigEndian.Uint16(payload))
	}
}

// gone reads until the server has ended the connection, however it did.
func (c *raw) gone() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			c.t.Fatal("the connection stays open")
		}
	}
}

// answer reads an answer of HTTP's.
func (c *raw) answer() answer {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{t: c.t, status: resp.StatusCode, header: resp.Header, body: string(b)}
}

// patient is rawSocket for a bubble, where hours pass at once.
func (s *server) patient(path string) *raw {
	s.t.Helper()
	c := s.rawSocket(path)
	_ = c.conn.SetDeadline(time.Now().Add(24 * time.Hour))
	return c
}

// halfClose ends what the client sends; it reads on.
func halfClose(t *testing.T, c *raw) {
	t.Helper()
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// reset ends the connection without a word of TCP's.
func reset(t *testing.T, c *raw) {
	t.Helper()
	if err := c.conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = c.conn.Close()
}
