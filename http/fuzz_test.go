package http_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"attune/http/wstest"
	"attune/wire"
)

// failing is a log handler's writer that fails the test: only what is ours goes to the log as an error.
type failing struct{ tb testing.TB }

func (f failing) Write(b []byte) (int, error) {
	f.tb.Errorf("logged: %s", b)
	return len(b), nil
}

// watched has the server's errors, panics among them, fail the test.
func watched(tb testing.TB) func(*setup) {
	tb.Helper()
	return func(cfg *setup) {
		cfg.Logger = slog.New(slog.NewTextHandler(failing{tb}, &slog.HandlerOptions{Level: slog.LevelError}))
	}
}

// FuzzClientFrames throws bytes at /ws after the handshake, then ends what it sends.
// Whatever they were, the server answers with whole frames of ours and ends the
// connection with a code of the protocol's, or without one where the client's
// connection was cut off in mid-frame.
func FuzzClientFrames(f *testing.F) {
	for _, b := range [][]byte{
		nil,
		wstest.Frame(wstest.Fin|wstest.Text, []byte(`{"type":"ping"}`)),
		wstest.Frame(wstest.Fin|wstest.Text, []byte(`{"type":"subscribe","filter":"all"}`)),
		append(wstest.Frame(wstest.Text, []byte(`{"type":`)), wstest.Frame(wstest.Fin|wstest.Continuation, []byte(`"ping"}`))...),
		bytes.Repeat(wstest.Frame(wstest.Fin|wstest.Text, []byte("x")), 21),
		wstest.Frame(wstest.Fin|wstest.Binary, nil),
		wstest.Frame(wstest.Fin|wstest.Close, []byte{3, 0xe8}),
		wstest.Frame(wstest.Fin|wstest.Ping, []byte("abc")),
		wstest.FrameOfLength(wstest.Fin|wstest.Text, 1<<40, []byte("x")),
		wstest.Frame(wstest.Fin|wstest.Text, make([]byte, 70000)),
		{0x81, 0x00},
		{0xf1, 0xff, 0xff},
	} {
		f.Add(b)
	}
	s := start(f, watched(f))
	s.publish(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		conn, err := s.dial(t.Context(), "tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := newRaw(t, conn, upgrade("/ws?filter=all"))
		c.upgraded()
		go func() {
			_, _ = conn.Write(b)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		equal(t, "first", c.text()["type"], any("welcome"))
		for {
			op, payload, err := c.next()
			switch {
			case err != nil:
				if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
					t.Fatal("neither answered nor closed")
				}
				return
			case op == wstest.Text:
				if m, err := wire.DecodeServerMessage(payload); err != nil || m == nil {
					t.Fatalf("answered %q: %v", payload, err)
				}
			case op == wstest.Close:
				known(t, payload)
			case op != wstest.Pong:
				t.Fatalf("opcode %d", op)
			}
		}
	})
}

// known checks a close frame: ours, or the client's echoed, which may be without a code.
func known(t *testing.T, payload []byte) {
	t.Helper()
	if len(payload) == 0 {
		return
	}
	if code := int(payload[0])<<8 | int(payload[1]); code < 1000 || code > 4999 {
		t.Errorf("close code %d", code)
	}
}

// FuzzEventsQuery asks for streams with any query and any Last-Event-ID: 200 with a
// welcome first, or problem+json.
func FuzzEventsQuery(f *testing.F) {
	for _, q := range [][2]string{
		{"", ""},
		{"filter=all", ""},
		{"filter=entity:execution:42&filter=user:1", "x"},
		{"cursor=abc.1", ""},
		{"filter=%zz", ""},
		{"a;b", "a.b.c"},
		{"filter=x&mode=latest", "é"},
		{"cursor=", "\t"},
	} {
		f.Add(q[0], q[1])
	}
	s := start(f, watched(f))
	f.Fuzz(func(t *testing.T, query, lastEventID string) {
		if strings.ContainsFunc(query+lastEventID, func(r rune) bool { return r < 0x20 || r == 0x7f }) || strings.ContainsAny(query, " #") {
			return // no request line or header: net/http's to refuse
		}
		u := &url.URL{Scheme: "http", Host: s.addr, Path: "/events", RawQuery: query}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.String(), nil)
		if err != nil {
			return // no URL
		}
		req.Header.Set("Last-Event-ID", lastEventID)
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			st := s.in(t).reading(resp)
			equal(t, "retry", st.block().Retry == "", false)
			equal(t, "welcome", st.block().Name, "welcome")
		case http.StatusBadRequest:
			b, _ := io.ReadAll(resp.Body)
			answer{t: t, status: resp.StatusCode, header: resp.Header, body: string(b)}.problem(400, fmt.Sprint(object(t, string(b))["code"]))
		default:
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}
