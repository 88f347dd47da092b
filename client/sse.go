package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/r3labs/sse/v2"
)

// longestAsked bounds how long a server may ask its clients to stay away.
const longestAsked = time.Minute

var errEnded = errors.New("the server ended the stream")

// overSSE makes one connection and receives until it ends. The error is never nil.
func (s *stream) overSSE(ctx context.Context) error {
	u := s.client.endpoint("/events", s.query())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	life := newWatch(cancel)
	defer life.stop()
	s.onAck = life.acknowledged

	events := sse.NewClient(u.String(), sse.ClientMaxBufferSize(maxMessage))
	unlimited := *s.client.http
	unlimited.Timeout = 0 // a stream has no end
	events.Connection = &unlimited
	for name, values := range s.client.header() {
		events.Headers[name] = values[0]
	}
	if s.resumes {
		events.Headers["Last-Event-ID"] = s.cursor
	}
	events.ReconnectStrategy = once{} // the loop around this resumes
	events.ResponseValidator = func(_ *sse.Client, resp *http.Response) error {
		if err := validate(resp); err != nil {
			resp.Body.Close()
			return err
		}
		resp.Body = &wholeEvents{body: resp.Body, life: life}
		s.connected(u)
		return nil
	}

	// The library reads on until the connection ends, whatever the handler made of an
	// event: the first failure ends the connection, and nothing is handed on after it.
	var failed error
	err := events.SubscribeRawWithContext(ctx, func(e *sse.Event) {
		if failed != nil {
			return
		}
		if ms, err := strconv.Atoi(string(e.Retry)); err == nil {
			s.retry = min(time.Duration(ms)*time.Millisecond, longestAsked)
		}
		if len(e.Data) == 0 {
			return
		}
		life.pause()
		if failed = s.receive(e.Data); failed != nil {
			cancel(failed)
			return
		}
		life.resume()
	})
	switch {
	case failed != nil:
		return failed
	case s.acknowledged.IsZero() && err != nil:
		return fmt.Errorf("connect to %s: %w", withoutQuery(u), plain(cause(ctx, err)))
	case errors.Is(err, bufio.ErrTooLong):
		s.cursor = "" // it would come again
	case err == nil:
		err = errEnded
	}
	return fmt.Errorf("connection lost: %w", cause(ctx, err))
}

// validate refuses an answer that is no event stream.
func validate(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != "text/event-stream" {
		return fmt.Errorf("content type %q: want text/event-stream", resp.Header.Get("Content-Type"))
	}
	return nil
}

// once is the retry strategy that does not retry.
type once struct{}

// NextBackOff says stop.
func (once) NextBackOff() time.Duration { return -1 }

// Reset does nothing.
func (once) Reset() {}

// wholeEvents passes a body on event by event. What a lost connection leaves of the
// last one is kept back, as the format demands; the library would hand it on as if
// it were whole.
type wholeEvents struct {
	body  io.ReadCloser
	life  *watch
	ready []byte // up to the end of an event
	rest  []byte // of the event that is not yet whole
}

// Read returns bytes of whole events.
func (r *wholeEvents) Read(p []byte) (int, error) {
	buf := make([]byte, 16<<10)
	for len(r.ready) == 0 {
		n, err := r.body.Read(buf)
		r.life.sign()
		r.take(buf[:n])
		if len(r.ready) > 0 {
			break
		}
		if err != nil {
			return 0, err
		}
		if len(r.rest) > maxMessage {
			return 0, bufio.ErrTooLong
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// take adds what was read and moves whole events to ready.
func (r *wholeEvents) take(b []byte) {
	from := max(len(r.rest)-3, 0) // an end may have been cut in two
	r.rest = append(r.rest, b...)
	end := -1
	for _, blank := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		if i := bytes.LastIndex(r.rest[from:], []byte(blank)); i >= 0 {
			end = max(end, from+i+len(blank))
		}
	}
	if end >= 0 {
		r.ready = append(r.ready, r.rest[:end]...)
		r.rest = append([]byte(nil), r.rest[end:]...)
	}
}

// Close closes the body.
func (r *wholeEvents) Close() error { return r.body.Close() }

func withoutQuery(u *url.URL) string {
	bare := *u
	bare.RawQuery = ""
	return bare.Redacted()
}
