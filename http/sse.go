package http

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"attune/auth"
	"attune/broadcast"
	"attune/wire"
)

// commentEvery keeps proxies from closing an idle event stream.
const commentEvery = 15 * time.Second

// handleEvents serves GET /events. The stream lives on in life where the connection
// can be taken over, which is HTTP/1.
func (s *Server) handleEvents(life context.Context, w http.ResponseWriter, r *http.Request) {
	req, err := s.parseStream(r, mustFilter("all"))
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		req.resume = &id
	}
	leave, err := s.admit(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}

	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		leave()
		return
	}

	s.streams.Add(1) // before http.Server forgets it
	defer s.streams.Done()
	c := &eventStream{}
	c.leave, c.tally, c.first = leave, s.metrics.eventStreams, commentEvery
	c.follow(s, c, req)
	err = c.sub.Subscribe(r.Context(), req.filters, req.resume, func(start broadcast.Start) []wire.ServerMessage {
		welcome := s.welcome(start.Mode)
		welcome.Cursor = &start.Cursor
		for _, f := range req.filters {
			welcome.Filters = append(welcome.Filters, f.String())
		}
		return []wire.ServerMessage{welcome}
	})
	if err == nil {
		c.conn, err = takeOver(w, r)
	}
	if err != nil {
		c.sub.Close()
		leave()
		s.problem(w, r, err)
		return
	}
	retry := fmt.Appendf(nil, "retry: %d\n\n", 1000+rand.IntN(2001)) //nolint:gosec // jitter needs no secrecy
	answer, stays := c.conn.(*answer)
	if stays {
		c.leave = func() {
			leave()
			close(answer.released)
		}
	}
	c.start(life, retry, c.receive)
	if stays {
		<-answer.released
	}
}

// eventStream is a stream of Server-Sent Events.
type eventStream struct{ stream }

func (c *eventStream) encode(frame *wire.Frame) []byte { return frame.SSE() }

func (c *eventStream) answers() []byte { return nil }

func (c *eventStream) lingers() bool { return false }

func (c *eventStream) keepAlive(time.Time) ([]byte, time.Duration, error) {
	return []byte(": keepalive\n\n"), commentEvery, nil
}

func (c *eventStream) goodbye(why error) []byte {
	reason, ok := byeReason(why)
	if !ok {
		return nil
	}
	return wire.NewFrame(wire.Bye{Reason: reason}).SSE()
}

// receive waits for the client to go; it has nothing to say.
func (c *eventStream) receive() (more bool) {
	var b [16]byte
	for {
		if _, err := c.conn.Read(b[:]); err != nil {
			c.end(err)
			return false
		}
	}
}

// byeReason tells the client why the server ends its stream; a client that went
// away needs no reason.
func byeReason(err error) (wire.ByeReason, bool) {
	switch {
	case errors.Is(err, errGoodbye):
		return wire.ByeServerShutdown, true
	case errors.Is(err, broadcast.ErrSlowConsumer):
		return wire.ByeSlowConsumer, true
	case errors.Is(err, auth.ErrExpired):
		return wire.ByeTokenExpired, true
	case errors.Is(err, auth.ErrWithdrawn):
		return wire.ByeAccessWithdrawn, true
	}
	return "", false
}
