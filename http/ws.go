package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"attune/auth"
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
	// readBuffer holds what most clients send at once, in bytes.
	readBuffer = 128
)

// closeError ends a WebSocket with a code and a reason.
type closeError struct {
	code   websocket.StatusCode
	reason string
}

func (e *closeError) Error() string { return fmt.Sprintf("close %d: %s", e.code, e.reason) }

// handleWebSocket serves GET /ws. The stream lives on in life.
func (s *Server) handleWebSocket(life context.Context, w http.ResponseWriter, r *http.Request) {
	req, err := s.parseStream(r)
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
	// Counted before the hijack, from which on http.Server no longer waits for it.
	s.streams.Add(1)
	defer s.streams.Done()
	shake := &handshake{ResponseWriter: w}
	// Accept makes the handshake; the connection it does not get.
	_, err = websocket.Accept(shake, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // sameOrigin has looked at the origin
		CompressionMode:    websocket.CompressionDisabled,
	})
	if shake.conn == nil {
		if leave != nil {
			leave()
		}
		s.refuseHandshake(w, r, shake, err)
		return
	}

	c := &webSocket{frames: frameReader{r: shake.reader}}
	c.conn, c.leave, c.tally, c.first = shake.conn, leave, s.metrics.webSockets, pingEvery
	c.heard.Store(time.Now().UnixNano())
	c.pingAt = time.Now().Add(pingEvery)
	mode := c.follow(s, c, req)
	greeting := wire.NewFrame(s.welcome(mode)).WebSocket()
	switch {
	case full != nil:
		// A browser must be able to tell: it sees close codes, but not the status of a
		// handshake that was refused.
		greeting = nil
		c.end(&closeError{code: websocket.StatusTryAgainLater, reason: "over capacity: try again later"})
	case len(req.filters) > 0:
		if err := c.subscribe(r.Context(), req.filters, req.resume); err != nil { // before anything is read: it is the first
			c.end(err)
		}
	}
	c.start(life, greeting, func() bool { return c.receive(life) })
}

// webSocket is a stream over WebSocket.
type webSocket struct {
	stream

	frames frameReader
	heard  atomic.Int64           // when the peer last sent anything, unix nanoseconds
	pong   atomic.Pointer[[]byte] // the answer to the peer's latest ping, until it is written
	closed atomic.Bool            // the peer has said goodbye
	pingAt time.Time              // touched in turns only
	bad    int                    // frames in a row; touched by the reader only
	asks   *rate.Limiter          // of what the client asks for; touched by the reader only
}

func (c *webSocket) encode(frame *wire.Frame) []byte { return frame.WebSocket() }

func (c *webSocket) answers() []byte {
	if c.pong.Load() == nil {
		return nil
	}
	return *c.pong.Swap(nil)
}

// keepAlive pings the peer, answered or not, and gives it up when nothing has come
// from it, a pong or anything else, for too long.
func (c *webSocket) keepAlive(now time.Time) (ping []byte, next time.Duration, err error) {
	silent := now.Sub(time.Unix(0, c.heard.Load()))
	if silent >= silentFor {
		return nil, 0, fmt.Errorf("peer silent for %s", silentFor)
	}
	if !now.Before(c.pingAt) {
		ping = controlFrame(opPing)
		c.pingAt = c.pingAt.Add(pingEvery)
	}
	return ping, min(c.pingAt.Sub(now), silentFor-silent), nil
}

func (c *webSocket) goodbye(why error) []byte {
	var e *closeError
	switch {
	case errors.As(why, &e):
		return e.frame()
	case errors.Is(why, errGoodbye):
		return (&closeError{code: websocket.StatusGoingAway, reason: errGoodbye.Error()}).frame()
	case errors.Is(why, broadcast.ErrSlowConsumer):
		return (&closeError{code: closeSlowConsumer, reason: "slow consumer: reconnect with your cursor"}).frame()
	case errors.Is(why, auth.ErrExpired):
		return (&closeError{code: closeTokenExpired, reason: "token expired"}).frame()
	case errors.Is(why, auth.ErrWithdrawn):
		return (&closeError{code: closeAccessWithdrawn, reason: "access withdrawn"}).frame()
	}
	return nil // the peer has gone, or does not take what is written
}

func (c *webSocket) lingers() bool { return !c.closed.Load() }

// receive waits for frames and handles those that have come.
func (c *webSocket) receive(ctx context.Context) (more bool) {
	r := c.frames.r
	if _, err := r.Peek(1); err != nil { // waits here, where the stack is shallow
		c.end(err)
		return false
	}
	for r.Buffered() > 0 {
		op, payload, err := c.frames.next()
		if err != nil {
			c.end(err)
			// The peer may be told why. Closing at once, with something unread, would reset
			// the connection, and what it was told could be lost.
			_, _ = io.Copy(io.Discard, r)
			return false
		}
		c.heard.Store(time.Now().UnixNano())
		c.handleFrame(ctx, op, payload)
	}
	return true
}

// handleFrame handles a message or control frame.
func (c *webSocket) handleFrame(ctx context.Context, op byte, payload []byte) {
	if op == opClose {
		c.closed.Store(true)
		c.end(closeOf(payload))
		return
	}
	if c.why.Load() != nil { // only the peer's goodbye is still of interest
		return
	}
	switch op {
	case opPing:
		pong := controlFrame(opPong, payload...)
		c.pong.Store(&pong)
		c.kick()
	case opBinary:
		c.end(&closeError{code: websocket.StatusUnsupportedData, reason: "frames are JSON text, not binary"})
	case opText:
		c.handleText(ctx, payload)
	}
}

func (c *webSocket) handleText(ctx context.Context, b []byte) {
	m, err := wire.DecodeClientMessage(b)
	var refused *wire.Error
	if err == nil {
		err = c.handle(ctx, m)
	}
	switch {
	case errors.As(err, &refused):
		c.sub.Send(refused)
	case err != nil:
		c.end(err)
	}
	if refused == nil || (refused.Code != wire.CodeInvalidJSON && refused.Code != wire.CodeUnknownType) {
		c.bad = 0
		return
	}
	if c.bad++; c.bad == maxBadFrames {
		c.end(&closeError{code: websocket.StatusPolicyViolation, reason: fmt.Sprintf("%d bad frames in a row", maxBadFrames)})
	}
}

// handle does what a client asks for.
func (c *webSocket) handle(ctx context.Context, m wire.ClientMessage) error {
	if _, ping := m.(wire.Ping); !ping && c.tooOften() {
		return &wire.Error{Code: wire.CodeOverCapacity, Message: fmt.Sprintf("too many frames: %v a second are answered", c.server.SubscribeRate)}
	}
	switch m := m.(type) {
	case wire.Ping:
		c.sub.Send(wire.Pong{})
	case wire.Subscribe:
		f, err := wire.ParseFilter(m.Filter)
		if err != nil {
			return err
		}
		if err := c.grant.Identity().May(auth.Subscribe, auth.Subject{Filter: f}); err != nil {
			return err
		}
		return c.subscribe(ctx, []wire.Filter{f}, m.Cursor)
	case wire.Auth:
		return c.refresh(ctx, m.Token)
	case wire.Unsubscribe:
		f, err := wire.ParseFilter(m.Filter)
		if err != nil {
			return err
		}
		c.sub.Unsubscribe(f, wire.Unsubscribed(m))
	}
	return nil
}

// tooOften reports whether the client asks for more than it may.
func (c *webSocket) tooOften() bool {
	if c.server.SubscribeRate <= 0 {
		return false
	}
	if c.asks == nil { // most clients ask for a filter or two, on connecting
		c.asks = newLimiter(c.server.SubscribeRate)
	}
	return !c.asks.Allow()
}

func (c *webSocket) subscribe(ctx context.Context, filters []wire.Filter, resume *string) error {
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
	conn   net.Conn
	reader *bufio.Reader // of conn
	status int           // of the refusal
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

// errTaken keeps the websocket package from making a connection of its own.
var errTaken = errors.New("the connection is taken over")

// Hijack implements http.Hijacker. By now the answer to the handshake is written. What
// net/http and the websocket package would hold for each connection, buffers of 4 kB
// each, is left behind.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn, h.reader = conn, bufio.NewReaderSize(readAhead(conn, rw.Reader), readBuffer)
	return nil, nil, errTaken
}

// readAhead returns what reads what buffered has read of conn already, then conn.
func readAhead(conn net.Conn, buffered *bufio.Reader) io.Reader {
	if buffered.Buffered() == 0 {
		return conn
	}
	b, _ := buffered.Peek(buffered.Buffered())
	return io.MultiReader(bytes.NewReader(bytes.Clone(b)), conn)
}
