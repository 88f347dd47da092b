package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"attune/http/wstest"
)

// Frames that RFC 6455 or the protocol does not allow end the connection with the code
// for that, at once, and nothing else.
func TestAttack_Frames(t *testing.T) {
	t.Parallel()
	x := withSecret(t)
	seven := x.user(7)
	big := func(length uint64) []byte { return wstest.FrameOfLength(0x81, length, nil) }
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	ping := []byte(`{"type":"ping"}`)
	cases := map[string]struct {
		send []byte
		code int
	}{
		"unmasked":                   {append([]byte{0x81, byte(len(ping))}, ping...), 1002},
		"unmasked ping":              {[]byte{0x89, 0}, 1002},
		"unmasked close":             {[]byte{0x88, 0}, 1002},
		"compressed":                 {wstest.Frame(0xc1, ping), 1002},
		"second reserved bit":        {wstest.Frame(0xa1, ping), 1002},
		"third reserved bit":         {wstest.Frame(0x91, ping), 1002},
		"compressed ping":            {wstest.Frame(0xc9, nil), 1002},
		"all reserved bits":          {wstest.Frame(0xf1, ping), 1002},
		"fragmented ping":            {wstest.Frame(0x09, nil), 1002},
		"fragmented close":           {wstest.Frame(0x08, nil), 1002},
		"ping of 126 bytes":          {wstest.Frame(0x89, make([]byte, 126)), 1002},
		"close of 70 KiB":            {wstest.Frame(0x88, make([]byte, 70<<10)), 1002},
		"nothing to continue":        {wstest.Frame(0x80, ping), 1002},
		"message within a message":   {join(wstest.Frame(0x01, ping), wstest.Frame(0x81, ping)), 1002},
		"binary within a message":    {join(wstest.Frame(0x01, ping), wstest.Frame(0x82, ping)), 1002},
		"length with the top bit":    {big(1 << 63), 1002},
		"length of all bits":         {big(1<<64 - 1), 1002},
		"length of 4 EiB":            {big(1 << 62), 1009},
		"length of 4 GiB":            {big(1 << 32), 1009},
		"64 KiB and a byte":          {wstest.Frame(0x81, make([]byte, 64<<10+1)), 1009},
		"endless fragments":          {join(wstest.Frame(0x01, make([]byte, 4<<10)), bytes.Repeat(wstest.Frame(0x00, make([]byte, 4<<10)), 1000)), 1009},
		"invalid UTF-8":              {wstest.Frame(0x81, []byte("{\"type\":\"\xff\"}")), 1007},
		"half a surrogate":           {wstest.Frame(0x81, []byte("\xed\xa0\x80")), 1007},
		"overlong UTF-8":             {wstest.Frame(0x81, []byte("\xc0\xaf")), 1007},
		"UTF-8 cut by the end":       {join(wstest.Frame(0x01, []byte("\xe2\x82")), wstest.Frame(0x80, nil)), 1007},
		"binary":                     {wstest.Frame(0x82, ping), 1003},
		"binary in fragments":        {join(wstest.Frame(0x02, nil), wstest.Frame(0x80, ping)), 1003},
		"close of one byte":          {wstest.Frame(0x88, []byte{3}), 1002},
		"close 999":                  {wstest.Frame(0x88, []byte{0x03, 0xe7}), 1002},
		"close 1005":                 {wstest.Frame(0x88, []byte{0x03, 0xed}), 1002},
		"close 65535":                {wstest.Frame(0x88, []byte{0xff, 0xff}), 1002},
		"close with invalid UTF-8":   {wstest.Frame(0x88, []byte{0x03, 0xe8, 0xff}), 1007},
		"1000 closes":                {bytes.Repeat(wstest.Frame(0x88, []byte{0x03, 0xe8}), 1000), 1000},
		"close, then a message":      {join(wstest.Frame(0x88, []byte{0x03, 0xe8}), wstest.Frame(0x81, []byte(`{"type":"subscribe","filter":"all"}`))), 1000},
		"twenty frames of no JSON":   {bytes.Repeat(wstest.Frame(0x81, []byte("{")), 20), 1008},
		"twenty of an unknown type":  {bytes.Repeat(wstest.Frame(0x81, []byte(`{"type":"x"}`)), 20), 1008},
		"twenty empty frames":        {bytes.Repeat(wstest.Frame(0x81, nil), 20), 1008},
		"twenty deeply nested":       {bytes.Repeat(wstest.Frame(0x81, bytes.Repeat([]byte("["), 60<<10)), 20), 1008},
		"a request in the upgraded":  {[]byte("GET /session HTTP/1.1\r\nHost: x\r\n\r\n"), 1002},
		"a greeting of TLS":          {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 1002},
		"half a header, then no end": {[]byte{0x81}, 0},
	}
	for op := byte(3); op < 16; op++ {
		if op >= 8 && op <= 10 {
			continue
		}
		cases[fmt.Sprintf("opcode %d", op)] = struct {
			send []byte
			code int
		}{wstest.Frame(0x80|op, ping), 1002}
	}
	for name, tt := range cases {
		// Once the connection stands, and in one write with the handshake.
		for _, early := range []bool{false, true} {
			var s *socket
			if early {
				s = x.socket(t, "", seven, tt.send...)
			} else {
				s = x.socket(t, "", seven)
				s.until(t, `"welcome"`)
				s.send(tt.send)
			}
			if tt.code == 0 {
				_ = s.conn.Close()
				continue
			}
			code, err := s.closeCode()
			// What was sent beyond the server's goodbye can have the connection reset before
			// that is read.
			if err != nil || code != tt.code && (code != 0 || len(tt.send) < 16<<10) {
				t.Errorf("%s, early %t: closed with %d (%v), want %d", name, early, code, err, tt.code)
			}
		}
	}
	for op := range byte(11) {
		cases := [][]byte{wstest.Frame(0x80|op, nil)[:1], wstest.Frame(0x80|op, []byte("12345"))[:7]}
		for _, half := range cases {
			s := x.socket(t, "", seven, half...)
			_ = s.conn.Close()
		}
	}
	t.Logf("%d shapes of frames, each by itself and with the handshake", len(cases))
	x.wellStill(t)
}

// What is allowed, however unusual, is answered, in any amount.
func TestAttack_LawfulButOdd(t *testing.T) {
	t.Parallel()
	x := withSecret(t, "ATTUNE_SUBSCRIBE_RATE=0")
	seven := x.user(7)
	s := x.socket(t, "", seven)
	s.until(t, `"welcome"`)
	// A ping a byte a fragment, between the fragments control frames, and ten thousand
	// fragments of nothing.
	message := []byte(`{"type":"ping"}`)
	for i, c := range message {
		first := byte(0)
		if i == 0 {
			first = 1
		}
		s.send(wstest.Frame(first, []byte{c}))
		s.send(wstest.Frame(0x89, []byte("between")))
	}
	for range 100 {
		s.send(bytes.Repeat(wstest.Frame(0x00, nil), 100))
	}
	s.send(wstest.Frame(0x80, nil))
	s.until(t, `"type":"pong"`)

	// Pings without end, none of whose answers is read meanwhile.
	for range 200 {
		s.send(bytes.Repeat(wstest.Frame(0x89, make([]byte, 125)), 50))
	}
	s.text(string(message))
	s.until(t, `"type":"pong"`)

	// Pongs that nobody has asked for, and pings of the protocol.
	for range 20 {
		s.send(bytes.Repeat(wstest.Frame(0x8a, nil), 500))
	}
	for range 10 {
		s.send(bytes.Repeat(wstest.Frame(0x81, message), 50))
		for range 50 {
			s.until(t, `"type":"pong"`)
		}
	}

	// More filters than there may be, and the same one over and over.
	for i := range 150 {
		s.text(fmt.Sprintf(`{"type":"subscribe","filter":"entity:order:%d"}`, i))
	}
	if said := s.until(t, `"error"`); !strings.Contains(said, "too_many_filters") {
		t.Errorf("too many filters: %s", said)
	}
	for range 1000 {
		s.text(`{"type":"subscribe","filter":"entity:order:1"}`)
	}
	s.text(string(message))
	s.until(t, `"type":"pong"`)

	// Compression is not agreed on, whoever offers it.
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits=8; server_no_context_takeover", "x-webkit-deflate-frame"} {
		if status, header, _ := x.ask(t, http.MethodGet, "/ws", upgradeTo(bearer(seven), "Sec-WebSocket-Extensions: "+offer)...); status != http.StatusSwitchingProtocols || header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("%s: %d, %q", offer, status, header.Get("Sec-WebSocket-Extensions"))
		}
	}
	// Handshakes that are none.
	for name, headers := range map[string][]string{
		"no key":          {"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"},
		"a short key":     {"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c2hvcnQ="},
		"two keys":        upgradeTo("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
		"version 8":       {"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		"HTTP/2 in clear": {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		"no upgrade":      nil,
	} {
		status, _, body := x.ask(t, http.MethodGet, "/ws", append(headers, bearer(seven))...)
		if status < 400 || status >= 500 || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	x.wellStill(t)
}
