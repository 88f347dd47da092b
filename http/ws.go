package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"attune/broadcast"
	"attune/wire"
)

const (
	// subprotocol is selected when the client offers it.
	subprotocol = "attune.v1"
	// maxFrame bounds what a client may send at once, in bytes.
	maxFrame = 64 << 10
	// maxBadFrames in a row end the connection.
	maxBadFrames = 20
	pingEvery    = 25 * time.Second
	silentFor    = 60 * time.Second
	// closeTimeout bounds the goodbye: writing it, and waiting for the peer's.
	closeTimeout = 2 * writeTimeout
)

// closeError ends a WebSocket with a code and a reason.
type closeError struct {
	code   websocket.StatusCode
	reason string
}

func (e *closeError) Error() string { return fmt.Sprintf("close %d: %s", e.code, e.reason) }

// handleWebSocket serves GET /ws.
func (s *Server) handleWebSocket(w http.ResponseWriter, r *http.Request) {
	req, err := parseStream(r)
	if err == nil && req.resume != nil && len(req.filters) == 0 {
		err = invalid("cursor without filter: name the filters that the cursor is for, or send it with the first subscribe")
	}
	if err != nil {
		s.problem(w, r, err)
		return
	}
	leave, full := s.admit(r)
	if full != nil && s.draining.Load() {
		s.problem(w, r, full)
		return
	}
	// Where the server is full, a browser must be able to tell: it sees close codes,
	// but not the status of a handshake that was refused.
	if leave != nil {
		defer leave()
	}

	// Counted before the hijack, from which on http.Server no longer waits for it.
	s.streams.Add(1)
	defer s.streams.Done()
	c := &wsConn{server: s}
	c.heard.Store(time.Now().UnixNano())
	shake := &handshake{ResponseWriter: w}
	c.conn, err = websocket.Accept(shake, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // sameOrigin has looked at the origin
		CompressionMode:    websocket.CompressionDisabled,
		OnPongReceived:     func(context.Context, []byte) { c.heard.Store(time.Now().UnixNano()) },
		OnPingReceived: func(context.Context, []byte) bool {
			c.heard.Store(time.Now().UnixNano())
			return true
		},
	})
	if err != nil {
		s.refuseHandshake(w, r, shake, err)
		return
	}
	defer c.conn.CloseNow() //nolint:errcheck // closed already in every case but a panic
	c.raw = shake.conn
	defer s.sockets.add(c.raw)()

	if full != nil {
		c.close(&closeError{code: websocket.StatusTryAgainLater, reason: "over capacity: try again later"})
		return
	}

	open := s.metrics.connections.WithLabelValues("ws")
	open.Inc()
	defer open.Dec()

	var health wire.Mode
	c.sub, health = s.Hub.Connect(req.options...)
	defer c.sub.Close()
	// A hijacked request's context does not end when the client goes: reading tells.
	err = c.run(context.WithoutCancel(r.Context()), health, req)
	if errors.Is(err, broadcast.ErrSlowConsumer) || errors.Is(err, errWriteTimeout) {
		s.metrics.slow.WithLabelValues("ws").Inc()
	}
	s.Logger.DebugContext(r.Context(), "websocket ended", slog.Any("err", err))
}

// wsConn is one WebSocket. run's goroutine is the only writer of frames.
type wsConn struct {
	server *Server
	conn   *websocket.Conn
	raw    *frameConn // what conn speaks on
	sub    *broadcast.Subscriber
	heard  atomic.Int64 // when the peer last sent anything, unix nanoseconds
}

// run serves the connection until there is a reason to end it, tells the client the
// reason, and returns it.
func (c *wsConn) run(ctx context.Context, mode wire.Mode, req streamRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2) // room for all who send
	c.conn.SetReadLimit(maxFrame)

	var wg sync.WaitGroup
	err := c.raw.writeFrames([]*wire.Frame{wire.NewFrame(c.server.welcome(mode))})
	if err == nil && len(req.filters) > 0 {
		err = c.subscribe(ctx, req.filters, req.resume) // before anything is read: it is the first
	}
	if err == nil {
		wg.Go(func() { ended <- c.read(ctx) })
		wg.Go(func() {
			if err := c.keepAlive(ctx); err != nil {
				ended <- err
			}
		})
		err = c.deliver(ctx, ended)
	}
	c.close(err) // ends read
	cancel()     // ends keepAlive
	wg.Wait()
	return err
}

// deliver writes what the subscriber gets, until it ends, somebody says why on
// ended, or the server goes away.
func (c *wsConn) deliver(ctx context.Context, ended <-chan error) error {
	delivered := c.server.metrics.deliveries.WithLabelValues("ws")
	closing, goodbye := c.server.closing, (<-chan time.Time)(nil)
	var frames []*wire.Frame
	var end error
	for {
		var err error
		if frames, err = c.sub.Take(ctx, frames[:0]); err != nil {
			return err
		}
		if err := c.raw.writeFrames(frames); err != nil {
			return err
		}
		delivered.Add(float64(notifications(frames)))
		clear(frames)
		if end != nil {
			return end
		}
		select {
		case <-c.sub.Ready():
		case end = <-ended: // what the client was answered before goes out first
		case <-closing:
			closing, goodbye = nil, c.server.goodbyeTurn()
		case <-goodbye:
			return errGoodbye
		}
	}
}

// close tells the peer why, and waits for its answer as long as the drain allows.
func (c *wsConn) close(err error) {
	var code websocket.StatusCode
	var reason string
	var e *closeError
	switch {
	case errors.As(err, &e):
		code, reason = e.code, e.reason
	case errors.Is(err, errGoodbye):
		code, reason = websocket.StatusGoingAway, errGoodbye.Error()
	case errors.Is(err, broadcast.ErrSlowConsumer):
		code, reason = closeSlowConsumer, "slow consumer: reconnect with your cursor"
	default: // the peer has gone, or does not take what is written
		_ = c.conn.CloseNow()
		return
	}
	// Close gives up after 5 s, but for the rest of a frame that the peer has begun it
	// would wait for ever.
	cut := time.AfterFunc(closeTimeout, func() { _ = c.raw.Close() })
	defer cut.Stop()
	_ = c.conn.Close(code, reason)
}

// read handles what the client sends until the connection ends, and returns why.
func (c *wsConn) read(ctx context.Context) error {
	bad := 0
	for {
		kind, b, err := c.conn.Read(ctx)
		if errors.Is(err, websocket.ErrMessageTooBig) {
			// The peer has been told. Closing at once, with the rest of the frame unread, would
			// reset the connection, and what it was told could be lost.
			return &closeError{code: websocket.StatusMessageTooBig, reason: "frames are at most 64 KiB"}
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		c.heard.Store(time.Now().UnixNano())
		if kind != websocket.MessageText {
			return &closeError{code: websocket.StatusUnsupportedData, reason: "frames are JSON text, not binary"}
		}
		m, err := wire.DecodeClientMessage(b)
		var refused *wire.Error
		if err == nil {
			err = c.handle(ctx, m)
		}
		switch {
		case errors.As(err, &refused):
			c.sub.Send(refused)
		case err != nil:
			return err
		}
		if refused == nil || (refused.Code != wire.CodeInvalidJSON && refused.Code != wire.CodeUnknownType) {
			bad = 0
			continue
		}
		if bad++; bad == maxBadFrames {
			return &closeError{code: websocket.StatusPolicyViolation, reason: fmt.Sprintf("%d bad frames in a row", maxBadFrames)}
		}
	}
}

// handle does what a client asks for.
func (c *wsConn) handle(ctx context.Context, m wire.ClientMessage) error {
	switch m := m.(type) {
	case wire.Ping:
		c.sub.Send(wire.Pong{})
	case wire.Subscribe:
		f, err := wire.ParseFilter(m.Filter)
		if err != nil {
			return err
		}
		return c.subscribe(ctx, []wire.Filter{f}, m.Cursor)
	case wire.Unsubscribe:
		f, err := wire.ParseFilter(m.Filter)
		if err != nil {
			return err
		}
		c.sub.Unsubscribe(f, wire.Unsubscribed(m))
	}
	return nil
}

func (c *wsConn) subscribe(ctx context.Context, filters []wire.Filter, resume *string) error {
	err := c.sub.Subscribe(ctx, filters, resume, func(start broadcast.Start) []wire.ServerMessage {
		acks := make([]wire.ServerMessage, len(filters))
		for i, f := range filters {
			acks[i] = wire.Subscribed{Filter: f.String(), Cursor: start.Cursor}
		}
		return acks
	})
	switch {
	case errors.Is(err, broadcast.ErrNotFirst):
		return &wire.Error{Code: wire.CodeCursorNotFirst, Message: err.Error(), Err: err}
	case errors.Is(err, broadcast.ErrTooManyFilters):
		return &wire.Error{Code: wire.CodeTooManyFilters, Message: fmt.Sprintf("at most %d filters on a connection", broadcast.MaxFilters), Err: err}
	}
	if errors.Is(err, broadcast.ErrOverCapacity) {
		return &closeError{code: websocket.StatusTryAgainLater, reason: err.Error()}
	}
	return err
}

// keepAlive pings the peer, answered or not, and returns an error when nothing has
// come from it, a pong or anything else, for too long.
func (c *wsConn) keepAlive(ctx context.Context) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		waiting, cancel := context.WithTimeout(ctx, min(pingEvery, silentFor-c.silence()))
		err := c.conn.Ping(waiting)
		cancel()
		switch {
		case c.silence() >= silentFor:
			return fmt.Errorf("peer silent for %s", silentFor)
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("ping: %w", err)
		}
	}
}

// silence is how long ago the peer last sent anything.
func (c *wsConn) silence() time.Duration { return time.Since(time.Unix(0, c.heard.Load())) }

// refuseHandshake answers in Accept's place, whose answer would be plain text.
func (s *Server) refuseHandshake(w http.ResponseWriter, r *http.Request, shake *handshake, err error) {
	switch {
	case shake.status == http.StatusUpgradeRequired:
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		s.problemStatus(w, r, shake.status, invalid("this path speaks WebSocket; event streams are at /events"))
	case shake.status < http.StatusInternalServerError:
		s.problemStatus(w, r, shake.status, invalid("%s", strings.TrimSpace(shake.reason)))
	default:
		s.problem(w, r, err)
	}
}

// handshake is what Accept writes to. It keeps hold of the connection that is taken
// over, and of a refusal.
type handshake struct {
	http.ResponseWriter
	conn   *frameConn
	status int // of the refusal
	reason string
}

// WriteHeader implements http.ResponseWriter.
func (h *handshake) WriteHeader(status int) {
	if h.status = status; status < http.StatusBadRequest {
		h.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter; Accept writes nothing but reasons.
func (h *handshake) Write(b []byte) (int, error) {
	h.reason += string(b)
	return len(b), nil
}

// sockets are the connections of the open WebSockets: net/http has forgotten them,
// and websocket.Conn cannot be cut while it waits for the peer's goodbye.
type sockets struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// add registers a connection and returns what takes it out again.
func (s *sockets) add(conn net.Conn) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[net.Conn]struct{})
	}
	s.open[conn] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, conn)
	}
}

// cut closes all of them without a word.
func (s *sockets) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		_ = conn.Close()
	}
}
