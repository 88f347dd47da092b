package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"attune/broadcast"
	"attune/wire"
)

// commentEvery keeps proxies from closing an idle event stream.
const commentEvery = 15 * time.Second

// errGoodbye ends streams when the server shuts down.
var errGoodbye = errors.New("server going away")

// handleEvents serves GET /events. The handler's goroutine is the stream's only
// writer.
func (s *Server) handleEvents(w http.ResponseWriter, r *http.Request) {
	req, err := parseStream(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if len(req.filters) == 0 {
		all, _ := wire.ParseFilter("all")
		req.filters = append(req.filters, all)
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		req.resume = &id
	}
	leave, err := s.admit(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	defer leave()

	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}

	s.streams.Add(1)
	defer s.streams.Done()
	open := s.metrics.connections.WithLabelValues("sse")
	open.Inc()
	defer open.Dec()

	sub, _ := s.Hub.Connect(req.options...)
	defer sub.Close()
	err = sub.Subscribe(r.Context(), req.filters, req.resume, func(start broadcast.Start) []wire.ServerMessage {
		welcome := s.welcome(start.Mode)
		welcome.Cursor = &start.Cursor
		for _, f := range req.filters {
			welcome.Filters = append(welcome.Filters, f.String())
		}
		return []wire.ServerMessage{welcome}
	})
	if errors.Is(err, broadcast.ErrOverCapacity) {
		s.problem(w, r, &wire.Error{Code: wire.CodeOverCapacity, Message: err.Error(), Err: err})
		return
	}
	if err == nil {
		stream := eventStream{w: w, rc: http.NewResponseController(w), buffers: &s.buffers}
		err = s.streamEvents(r.Context(), &stream, sub)
		if reason, ok := byeReason(err); ok {
			_ = stream.write(wire.NewFrame(wire.Bye{Reason: reason}).SSE()) // if it still can be said
			_ = stream.flush()
		}
	}
	if errors.Is(err, broadcast.ErrSlowConsumer) || errors.Is(err, errWriteTimeout) {
		s.metrics.slow.WithLabelValues("sse").Inc()
	}
	s.Logger.DebugContext(r.Context(), "event stream ended", slog.Any("err", err))
}

// streamEvents writes what the subscriber gets until there is a reason to stop.
func (s *Server) streamEvents(ctx context.Context, stream *eventStream, sub *broadcast.Subscriber) error {
	retry := 1000 + rand.IntN(2001) //nolint:gosec // jitter needs no secrecy
	if err := stream.write(fmt.Appendf(nil, "retry: %d\n\n", retry)); err != nil {
		return err
	}
	delivered := s.metrics.deliveries.WithLabelValues("sse")
	keepalive := time.NewTicker(commentEvery)
	defer keepalive.Stop()
	closing, goodbye := s.closing, (<-chan time.Time)(nil)
	var frames []*wire.Frame
	for {
		var err error
		if frames, err = sub.Take(ctx, frames[:0]); err != nil {
			return err
		}
		for _, frame := range frames {
			if err := stream.write(frame.SSE()); err != nil {
				return err
			}
		}
		if err := stream.flush(); err != nil {
			return err
		}
		delivered.Add(float64(notifications(frames)))
		clear(frames)
		select {
		case <-sub.Ready():
		case <-keepalive.C:
			if err := stream.write([]byte(": keepalive\n\n")); err != nil {
				return err
			}
		case <-closing:
			closing, goodbye = nil, s.goodbyeTurn()
		case <-goodbye:
			return errGoodbye
		case <-ctx.Done():
			return context.Cause(ctx)
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
	}
	return "", false
}

// welcome numbers a client and greets it.
func (s *Server) welcome(mode wire.Mode) wire.Welcome {
	return wire.Welcome{
		ClientID: fmt.Sprintf("client_%d", s.clients.Add(1)),
		Message:  "Connected to Attune Notifier",
		Mode:     mode,
	}
}

// errWriteTimeout: the client did not take what was written in time.
var errWriteTimeout = errors.New("slow consumer: write timeout")

// eventStream writes to one client, each chunk under a deadline of its own: a client
// that reads slowly is served, one that does not read at all is dropped. What is
// written gathers until flush: a write costs far more than an event.
type eventStream struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	buffers *sync.Pool // of *[]byte with room for a chunk: an idle stream holds none
	buf     *[]byte
}

func (e *eventStream) write(b []byte) error {
	if e.buf == nil {
		e.buf, _ = e.buffers.Get().(*[]byte)
	}
	for len(b) > 0 {
		n := min(len(b), writeChunk-len(*e.buf))
		*e.buf = append(*e.buf, b[:n]...)
		if b = b[n:]; len(*e.buf) == writeChunk {
			if err := e.send(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush sends what was written.
func (e *eventStream) flush() error {
	if e.buf == nil {
		return nil
	}
	err := e.send()
	e.buffers.Put(e.buf)
	e.buf = nil
	return err
}

func (e *eventStream) send() error {
	if len(*e.buf) == 0 {
		return nil
	}
	if err := e.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	_, err := e.w.Write(*e.buf)
	*e.buf = (*e.buf)[:0]
	if err == nil {
		err = e.rc.Flush()
	}
	return writeError(err)
}

// notifications counts those among frames.
func notifications(frames []*wire.Frame) (n int) {
	for _, frame := range frames {
		if _, ok := frame.Message.(wire.Notification); ok {
			n++
		}
	}
	return n
}

func writeError(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", errWriteTimeout, err)
	}
	return err
}
