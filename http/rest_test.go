package http_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"attune/broadcast"
	attunehttp "attune/http"
	"attune/web"
	"attune/wire"
)

// TestStreams_OneGoroutineEach: that is all a stream takes that has nothing to do,
// also after it had.
func TestStreams_OneGoroutineEach(t *testing.T) {
	const each = 50
	s := start(t)
	s.get("/livez").want(200) // it has started
	s.http.CloseIdleConnections()
	before := runtime.NumGoroutine() // or a few too many: of that connection
	sockets, streams := make([]*raw, each), make([]*raw, each)
	for i := range each {
		sockets[i] = s.rawSocket("/ws?filter=all")
		streams[i] = s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n")
	}
	s.connections("ws", each)
	s.connections("sse", each)
	s.publish(1)
	for _, c := range sockets {
		for got := c.text(); got["type"] != "notification"; {
			got = c.text()
		}
	}
	s.http.CloseIdleConnections()
	eventually(t, "one goroutine for each stream", func() bool { return runtime.NumGoroutine() <= before+2*each })
}

// TestEvents_HTTP2: an answer over HTTP/2 is served like any other stream.
func TestEvents_HTTP2(t *testing.T) {
	t.Parallel()
	hub := broadcast.New(broadcast.Options{QueueSize: 8, WindowSize: 8})
	hub.SetMode(wire.ModeLive)
	over := httptest.NewUnstartedServer(attunehttp.New(attunehttp.Config{
		Hub: hub, Page: web.Files(), Logger: slog.New(slog.DiscardHandler),
		Source: func() attunehttp.SourceStats { return attunehttp.SourceStats{} },
	}).Handler(t.Context()))
	over.EnableHTTP2 = true
	over.StartTLS()
	defer over.Close()
	s := &server{t: t, hub: hub, url: over.URL, http: over.Client()}

	st := s.opened("")
	equal(t, "protocol", st.resp.Proto, "HTTP/2.0")
	equal(t, "content type", st.resp.Header.Get("Content-Type"), "text/event-stream")
	s.publish(1, 2)
	equal(t, "ids", st.ids(2), []int64{1, 2})
	hub.Publish(large(3, 256<<10))
	equal(t, "ids", st.ids(1), []int64{3})
	a := s.get("/livez")
	equal(t, "on the same connection", a.status, http.StatusOK)
	_ = st.resp.Body.Close()
	eventually(t, "no subscriber", func() bool { return hub.Stats().Subscribers == 0 })
}
