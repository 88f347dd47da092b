package pg_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"attune/pg"
)

// stream encodes messages as PostgreSQL sends them.
func stream(tb testing.TB, messages ...pgproto3.BackendMessage) []byte {
	tb.Helper()
	var text []byte
	for _, m := range messages {
		var err error
		if text, err = m.Encode(text); err != nil {
			tb.Fatal(err)
		}
	}
	return text
}

func heard(channel, payload string) *pgproto3.NotificationResponse {
	return &pgproto3.NotificationResponse{PID: 7, Channel: channel, Payload: payload}
}

// told returns what there is to see of a message.
func told(m pgproto3.BackendMessage) string {
	if n, ok := m.(*pgproto3.NotificationResponse); ok {
		return fmt.Sprintf("heard %q %q", n.Channel, n.Payload)
	}
	return fmt.Sprintf("%T %+v", m, m)
}

// FuzzTap: with a tap before it, pgx reads the same messages, but for the notifications;
// those are the tap's, as pgx would have read them.
func FuzzTap(f *testing.F) {
	notice := &pgproto3.NoticeResponse{Severity: "NOTICE", Message: "x"}
	row := &pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte("r"), 100)}}
	f.Add(stream(f, heard("c", "{}"), notice, heard("c", strings.Repeat("p", 300)), row, heard("", "")), false)
	f.Add(stream(f, row, row, heard("d", "é"), &pgproto3.ReadyForQuery{TxStatus: 'I'}), true)
	f.Add([]byte("A\x00\x00\x00\x04"), false)
	f.Add([]byte("A\x00\x00\x00\x0ac\x00p\x00\x00\x00"), false)
	f.Add([]byte("A\xff\xff\xff\xff"), false)
	f.Add([]byte("A\x00\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, text []byte, slowly bool) {
		var want, got []string
		plain := pgproto3.NewFrontend(bytes.NewReader(text), io.Discard)
		plain.SetMaxBodyLen(len(text)) // or pgx makes room for as much as a message says
		var err error
		for err == nil {
			var m pgproto3.BackendMessage
			if m, err = plain.Receive(); err == nil {
				want = append(want, told(m))
			}
		}

		var r io.Reader = bytes.NewReader(text)
		if slowly {
			r = iotest.OneByteReader(r)
		}
		tap := pg.NewTap(r)
		tapped := pgproto3.NewFrontend(tap, io.Discard)
		tapped.SetMaxBodyLen(len(text))
		var end error
		for end == nil {
			var m pgproto3.BackendMessage
			m, end = tapped.Receive()
			for _, n := range tap.Take() {
				got = append(got, told(heard(n.Channel, n.Payload)))
			}
			if end == nil {
				got = append(got, told(m))
			}
		}
		// Where there is no more sense in it, both stop, the tap maybe sooner: what it has
		// read must be right all the same.
		if len(got) > len(want) || !cmp.Equal(got, want[:len(got)]) {
			t.Fatalf("got %.2000q, want %.2000q", got, want)
		}
		if errors.Is(err, io.EOF) && errors.Is(end, io.EOF) && len(got) < len(want) {
			t.Fatalf("got %d messages, want %d", len(got), len(want))
		}
	})
}

// late is a reader that times out once.
type late struct{ timedOut bool }

func (r *late) Read([]byte) (int, error) {
	if r.timedOut {
		return 0, io.EOF
	}
	r.timedOut = true
	return 0, os.ErrDeadlineExceeded
}

// TestTap_Wait: a wait ends with a notification, or with a message that is pgx's, which
// has all of it: where a deadline came in the midst of it, pgx goes on.
func TestTap_Wait(t *testing.T) {
	t.Parallel()
	status := &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}
	text := stream(t, status, heard("c", "1"), heard("c", "2"))
	cut := len(text) - 3
	last := stream(t, status)
	tap := pg.NewTap(io.MultiReader(bytes.NewReader(text[:cut]), bytes.NewReader(text[cut:]), bytes.NewReader(last[:7]), &late{}, bytes.NewReader(last[7:])))
	frontend := pgproto3.NewFrontend(tap, io.Discard)
	wait := func() {
		t.Helper()
		if err := tap.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	readStatus := func() {
		t.Helper()
		if got := tap.Take(); got != nil {
			t.Fatalf("got %v, want a message that is pgx's", got)
		}
		if m, err := frontend.Receive(); err != nil || !cmp.Equal(m, pgproto3.BackendMessage(status)) {
			t.Fatalf("got %v, %v; want the status", m, err)
		}
	}

	wait()
	readStatus()
	for _, want := range []string{"1", "2"} {
		wait()
		unread := want == "1" // the beginning of the next
		if got := tap.Take(); !cmp.Equal(got, []pg.TapNotification{{Channel: "c", Payload: want}}) || tap.Unread() != unread {
			t.Fatalf("got %v, unread %t; want %q, %t", got, tap.Unread(), want, unread)
		}
	}
	wait()
	if m, err := frontend.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, %v; want that it takes too long", m, err)
	}
	wait()
	readStatus()
	if err := tap.Wait(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v at the end, want that it was unexpected", err)
	}
}

// TestTap_Take: what came while the connection was used is handed over in parts.
func TestTap_Take(t *testing.T) {
	t.Parallel()
	var messages []pgproto3.BackendMessage
	var want []pg.TapNotification
	for i := range 1000 {
		payload := strings.Repeat(strconv.Itoa(i%10), 7000) // more than is kept
		if i == 0 {
			payload = strings.Repeat("ก", 7999) // as it comes from a database in WIN874
		}
		messages = append(messages, heard("c", payload))
		want = append(want, pg.TapNotification{Channel: "c", Payload: payload})
	}
	row := &pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte("r"), 200<<10)}} // more than is read at once
	tap := pg.NewTap(bytes.NewReader(stream(t, append(messages, row)...)))
	if m, err := pgproto3.NewFrontend(tap, io.Discard).Receive(); err != nil || !cmp.Equal(m, pgproto3.BackendMessage(row)) {
		t.Fatalf("got a %T, %v; want the row", m, err)
	}
	var got []pg.TapNotification
	for parts := 0; len(got) < len(want); parts++ {
		part := tap.Take()
		if len(part) == 0 || len(part) > 20 {
			t.Fatalf("part %d has %d notifications of 7,000 bytes", parts, len(part))
		}
		got = append(got, part...)
	}
	if !cmp.Equal(got, want) || tap.Unread() {
		t.Errorf("got %d notifications, unread %t; want %d", len(got), tap.Unread(), len(want))
	}
}
