package main_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// say sends bytes on a connection of their own, says that there are no more, and returns
// all that is answered. The server must end the connection.
func (x *target) say(t *testing.T, text string) string {
	t.Helper()
	conn := dialSilent(t, x.server, "")
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, text) // the server may refuse before it has read all
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as it comes
		t.Errorf("%.80q: the connection stays open", text)
	}
	return string(answer)
}

// What one end of a chain of servers reads as one request and the other as two is refused,
// or at least answered once.
func TestAttack_Smuggling(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	seven := x.user(7)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	head := func(lines ...string) string {
		return "POST /tickets HTTP/1.1\r\nHost: " + x.addr + "\r\n" + bearer(seven) + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	length := fmt.Sprintf("Content-Length: %d", len("0\r\n\r\n"+smuggled))
	chunked := "Transfer-Encoding: chunked"
	for name, text := range map[string]string{
		"length, then chunks":         head(length, chunked) + "0\r\n\r\n" + smuggled,
		"chunks, then length":         head(chunked, length) + "0\r\n\r\n" + smuggled,
		"length that is short":        head("Content-Length: 4", chunked) + "5c\r\n" + smuggled + "\r\n0\r\n\r\n",
		"two lengths":                 head("Content-Length: 0", length) + "0\r\n\r\n" + smuggled,
		"two lengths in one":          head("Content-Length: 0, 40") + smuggled,
		"length with a sign":          head("Content-Length: +0") + smuggled,
		"negative length":             head("Content-Length: -1") + smuggled,
		"hexadecimal length":          head("Content-Length: 0x0") + smuggled,
		"length of two numbers":       head("Content-Length: 0 40") + smuggled,
		"length beyond 64 bits":       head("Content-Length: 18446744073709551616") + smuggled,
		"length with another zero":    head("Content-Length: ٠") + smuggled,
		"space before the colon":      head("Transfer-Encoding : chunked") + "0\r\n\r\n" + smuggled,
		"tab before the colon":        head("Transfer-Encoding\t: chunked") + "0\r\n\r\n" + smuggled,
		"another encoding":            head("Transfer-Encoding: xchunked") + "0\r\n\r\n" + smuggled,
		"two encodings":               head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n" + smuggled,
		"two encodings in one":        head("Transfer-Encoding: identity, chunked") + "0\r\n\r\n" + smuggled,
		"encoding with a vertical":    head("Transfer-Encoding: \vchunked") + "0\r\n\r\n" + smuggled,
		"encoding with a zero byte":   head("Transfer-Encoding: chunked\x00") + "0\r\n\r\n" + smuggled,
		"encoding in quotes":          head(`Transfer-Encoding: "chunked"`) + "0\r\n\r\n" + smuggled,
		"chunk beyond 64 bits":        head(chunked) + "FFFFFFFFFFFFFFFFF\r\n" + smuggled,
		"chunk with a sign":           head(chunked) + "+0\r\n\r\n" + smuggled,
		"chunk with 0x":               head(chunked) + "0x0\r\n\r\n" + smuggled,
		"chunk that is longer":        head(chunked) + "2\r\nabc\r\n0\r\n\r\n" + smuggled,
		"chunk without a size":        head(chunked) + "\r\n\r\n" + smuggled,
		"chunk size with an endless":  head(chunked) + "0;" + strings.Repeat("a", 64<<10) + "\r\n\r\n" + smuggled,
		"header with no name":         head(": x") + smuggled,
		"header with no colon":        head("nothing") + smuggled,
		"header with a space":         head("X Y: z") + smuggled,
		"two hosts":                   head("Host: evil.example") + smuggled,
		"no host":                     "GET /livez HTTP/1.1\r\n\r\n" + smuggled,
		"host with a path":            "GET /livez HTTP/1.1\r\nHost: a/b c\r\n\r\n" + smuggled,
		"version 9.9":                 "GET /livez HTTP/9.9\r\nHost: x\r\n\r\n" + smuggled,
		"version 1.1 of nothing":      "GET /livez HTTX/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"no version":                  "GET /livez\r\n\r\n" + smuggled,
		"space before the method":     " GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"zero byte in the method":     "G\x00T /livez HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"control character in a path": "GET /liv\x01ez HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"space in the path":           "GET /livez HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"bare CR between headers":     "GET /livez HTTP/1.1\rHost: x\r\r" + smuggled,
		"bare CR in a header":         head("X: a\rContent-Length: 0") + smuggled,
		"a header of 64 KiB":          head("X: "+strings.Repeat("a", 64<<10)) + smuggled,
		"10,000 headers":              head(strings.Repeat("X: y\r\n", 10_000)+"X: y") + smuggled,
		"a path of 64 KiB":            "GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"HTTP/2 without asking":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled,
		"a greeting of TLS":           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + smuggled,
		"zero bytes":                  strings.Repeat("\x00", 4096) + smuggled,
		"an expectation":              head("Expect: 200-maybe", "Content-Length: 0") + smuggled,
	} {
		answer := x.say(t, text)
		if n := strings.Count(answer, "HTTP/1.1 "); n > 1 || strings.Contains(answer, "/smuggled") {
			t.Errorf("%s: %d answers:\n%s", name, n, answer)
		}
		if strings.Contains(answer, seven) || strings.Contains(answer, "HTTP/1.1 5") && !strings.HasPrefix(answer, "HTTP/1.1 50") {
			t.Errorf("%s:\n%s", name, answer)
		}
	}

	// Nobody is let in by what is part of another header, or was said in another request.
	for name, text := range map[string]string{
		"a folded line":           "GET /session HTTP/1.1\r\nHost: x\r\nX: a\r\n " + bearer(seven) + "\r\n\r\n",
		"a line folded by a tab":  "GET /session HTTP/1.1\r\nHost: x\r\nX: a\r\n\t" + bearer(seven) + "\r\n\r\n",
		"a bare CR":               "GET /session HTTP/1.1\r\nHost: x\r\nX: a\r" + bearer(seven) + "\r\n\r\n",
		"a body":                  "GET /session HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n" + bearer(seven) + "\r\n\r\n",
		"a trailer":               "GET /session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\n" + bearer(seven) + "\r\n\r\n",
		"a name with a space":     "GET /session HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer " + seven + "\r\n\r\n",
		"an absolute form":        "GET http://" + seven + "@" + x.addr + "/session HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path around":           "GET /livez/../session HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path that is encoded":  "GET /%73ession HTTP/1.1\r\nHost: x\r\n\r\n",
		"a path of slashes":       "GET //session HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT":                 "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
		"CONNECT of a path":       "CONNECT /session HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS *":               "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"a forwarded address":     "GET /stats HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n\r\n",
		"another's absolute form": "GET http://evil.example/session HTTP/1.1\r\nHost: " + x.addr + "\r\n\r\n",
		"TRACE":                   "TRACE /session HTTP/1.1\r\nHost: x\r\n" + bearer(seven) + "\r\n\r\n",
	} {
		answer := x.say(t, text)
		if strings.Contains(answer, `"user_id"`) || strings.Contains(answer, seven) || strings.Count(answer, "HTTP/1.1 ") > 1 {
			t.Errorf("%s:\n%s", name, answer)
		}
	}
	pipeline := "GET /session HTTP/1.1\r\nHost: x\r\n" + bearer(seven) + "\r\n\r\nGET /session HTTP/1.1\r\nHost: x\r\n\r\n"
	if answer := x.say(t, strings.Repeat(pipeline, 50)); strings.Count(answer, "HTTP/1.1 200") != 50 || strings.Count(answer, "HTTP/1.1 401") != 50 {
		t.Errorf("of 100 requests at once, each second without a token, %d were let in and %d not", strings.Count(answer, "HTTP/1.1 200"), strings.Count(answer, "HTTP/1.1 401"))
	}
	x.wellStill(t)
}

// Whoever is slow on purpose, with a header, a body or a handshake, is sent away, and
// nobody else waits for him.
func TestAttack_SlowWriters(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	seven := x.user(7)
	const each = 40
	var slow []net.Conn
	for _, begin := range []string{
		"GET /livez HTTP/1.1\r\nX: ", "G", "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: ",
		"POST /executions HTTP/1.1\r\nHost: x\r\n" + bearer(seven) + "\r\nContent-Length: 100000\r\n\r\n{",
		"POST /tickets HTTP/1.1\r\nHost: x\r\n" + bearer(seven) + "\r\nContent-Length: 100000\r\n\r\n{",
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
	} {
		for range each {
			slow = append(slow, dialSilent(t, x.server, begin))
		}
	}
	begun := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	one := make([]byte, 4096)
	for open := slow; len(open) > 0; <-tick.C {
		if time.Since(begun) > 2*patience {
			t.Fatalf("after %s %d of %d are open", time.Since(begun), len(open), len(slow))
		}
		x.wellStill(t) // not /readyz alone, at once: it tells of a database that is slow by itself
		var still []net.Conn
		for _, conn := range open {
			_, err := conn.Write([]byte("a"))
			for err == nil {
				_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, err = conn.Read(one)
			}
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as it comes
				still = append(still, conn)
			}
		}
		open = still
	}
	t.Logf("%d slow writers are gone after %s", len(slow), time.Since(begun).Round(time.Second))
	x.wellStill(t)
}
