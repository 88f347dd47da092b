package http_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// event is one block of an event stream: an event, a retry or a comment.
type event struct{ Name, ID, Data, Retry, Comment string }

// stream is an event stream, read strictly: one field of a kind in a block, a space
// after each colon, "\n" at the end of each line, no field that we do not send.
type stream struct {
	t    testing.TB
	resp *http.Response
	r    *bufio.Reader
	// under is the connection, where a test needs it.
	under *raw
}

// events opens an event stream; headers come in pairs. It is closed when the test ends.
func (s *server) events(query string, headers ...string) *stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("GET /events%s: %s: %s", query, resp.Status, b)
	}
	return s.reading(resp)
}

// reading is the stream that is answered.
func (s *server) reading(resp *http.Response) *stream {
	return &stream{t: s.t, resp: resp, r: bufio.NewReader(resp.Body)}
}

// opened is events, past the retry and the welcome.
func (s *server) opened(query string, headers ...string) *stream {
	s.t.Helper()
	st := s.events(query, headers...)
	st.block()
	equal(s.t, "first event", st.block().Name, "welcome")
	return st
}

// block reads one block.
func (st *stream) block() event {
	st.t.Helper()
	e, err := st.read()
	if err != nil {
		st.t.Fatal(err)
	}
	return e
}

func (st *stream) read() (e event, err error) {
	for {
		line, err := st.r.ReadString('\n')
		if err != nil {
			return e, err
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return e, nil
		}
		field, value, _ := strings.Cut(line, ": ")
		to := map[string]*string{"": &e.Comment, "event": &e.Name, "id": &e.ID, "data": &e.Data, "retry": &e.Retry}[field]
		if to == nil || *to != "" || value == "" || strings.ContainsAny(value, "\r\x00") {
			st.t.Fatalf("line %q in block %+v", line, e)
		}
		*to = value
	}
}

// want reads an event of that name and compares its id and data.
func (st *stream) want(name, id string, data map[string]any) {
	st.t.Helper()
	e := st.block()
	equal(st.t, "event", event{Name: e.Name, ID: e.ID}, event{Name: name, ID: id})
	equal(st.t, "data", object(st.t, e.Data), data)
}

// ids reads n notifications, past what keeps the stream alive meanwhile, and returns their
// entity ids.
func (st *stream) ids(n int) []int64 {
	st.t.Helper()
	list := make([]int64, 0, n)
	for len(list) < n {
		e := st.block()
		if e == (event{Comment: "keepalive"}) {
			continue
		}
		data := object(st.t, e.Data)
		id, ok := data["entity_id"].(float64)
		if e.Name != "" || data["cursor"] != any(e.ID) || data["type"] != "notification" || !ok {
			st.t.Fatalf("got %+v, want a notification", e)
		}
		list = append(list, int64(id))
	}
	return list
}

// bye reads past what is left to the bye with that reason, after which the stream must end.
func (st *stream) bye(reason string) {
	st.t.Helper()
	var e event
	for e.Name != "bye" {
		e = st.block()
	}
	equal(st.t, "bye", object(st.t, e.Data), map[string]any{"type": "bye", "reason": reason})
	if e, err := st.read(); err != io.EOF { //nolint:errorlint // an end in mid-block is another error
		st.t.Errorf("after bye: %+v, %v", e, err)
	}
}

// eventsUnread opens an event stream on a connection that holds back nothing: what is
// not read here stops the server. Retry and welcome are read.
func (s *server) eventsUnread() *stream {
	s.t.Helper()
	c := s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n")
	_ = c.conn.SetDeadline(time.Now().Add(24 * time.Hour))
	return c.stream()
}

// stream reads the answer to a request for an event stream, its retry and its welcome.
func (c *raw) stream() *stream {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	st := &stream{t: c.t, resp: resp, r: bufio.NewReader(resp.Body), under: c}
	st.block()
	st.block()
	return st
}

// slow has the stream read that many bytes a second from now on.
func (st *stream) slow(bytesPerSecond int) {
	st.under.r.Reset(&slowReader{r: st.under.conn, bytesPerSecond: bytesPerSecond})
}
