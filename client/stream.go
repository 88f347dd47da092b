package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"attune/wire"
)

// Transport is how a stream travels.
type Transport uint8

// The transports of a stream.
const (
	WebSocket Transport = iota
	SSE
)

// What a stream allows its server.
const (
	handshakeTimeout = 10 * time.Second // to connect
	ackTimeout       = 10 * time.Second // then, to acknowledge the subscription
	silenceTimeout   = 75 * time.Second // between two signs of life; three of the server's pings
	pingInterval     = 25 * time.Second // of ours, for servers that send none
	healthyAfter     = 5 * time.Second  // subscribed for so long, a connection was a good one
	firstRetry       = 250 * time.Millisecond
	longestRetry     = 10 * time.Second
)

// Gaps that the client finds by itself. They reach the handler as those of the
// server do, and mean the same: read the state again.
const (
	// GapUndecodable: a frame arrived that could not be read.
	GapUndecodable wire.GapReason = "undecodable_frame"
	// GapNoCursor: the connection was made anew and there was no cursor to resume from.
	GapNoCursor wire.GapReason = "reconnected_without_cursor"
)

// Why a connection ends, besides what the network says.
var (
	errSilent = errors.New("no sign of life for " + silenceTimeout.String())
	errNoAck  = errors.New("the subscription was not acknowledged within " + ackTimeout.String())
)

// StreamOptions says where a stream starts and how it travels.
type StreamOptions struct {
	// Cursor is the position to start from; "" for now.
	Cursor    string
	Transport Transport
	// Connected is told of each connection, before its first message; nil for nobody.
	// The URL is without the query.
	Connected func(url string)
	// Lost is told why there is no connection and when the next attempt follows; nil
	// for nobody.
	Lost func(err error, retry time.Duration)
}

// Stream subscribes to filters and hands on what the server sends, in order and from
// one goroutine: welcome, subscribed, notification, gap, status, bye and error. A
// lost connection is made anew, from the last cursor, with delays that grow and fall
// back once a connection holds; a gap is handed on wherever something may have been
// missed, those that only the client can know of included (GapUndecodable,
// GapNoCursor).
//
// It returns when ctx is done (its cause), when handle fails (that error), or when
// the server refuses for good (see Permanent).
func (c *Client) Stream(ctx context.Context, filters []string, opts StreamOptions, handle func(wire.ServerMessage) error) error {
	if len(filters) == 0 {
		return errors.New("stream: want at least one filter")
	}
	s := &stream{
		client: c, filters: distinct(filters), opts: opts, handle: handle, cursor: opts.Cursor,
		backoff: backoff{first: firstRetry, most: longestRetry},
	}
	connect := s.overWebSocket
	if opts.Transport == SSE {
		connect = s.overSSE
	}
	for {
		s.begin()
		err := connect(ctx)
		if e, ok := errors.AsType[*handlerError](err); ok {
			return e.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if Permanent(err) {
			return err
		}
		delay := s.pause()
		c.log.DebugContext(ctx, "stream lost", slog.Any("err", err), slog.Duration("retry_in", delay))
		if opts.Lost != nil {
			opts.Lost(err, delay)
		}
		if !sleep(ctx, delay) {
			return context.Cause(ctx)
		}
	}
}

// stream is one call of Stream. All of it belongs to the calling goroutine.
type stream struct {
	client  *Client
	filters []string
	opts    StreamOptions
	handle  func(wire.ServerMessage) error
	backoff backoff
	retry   time.Duration // at least so long until the next attempt, as the server asks

	cursor string // the last position that was handed on; "" when there is none
	// Notifications may have come since, as the server had acknowledged the filters once.
	followed bool

	// Of the connection as it is now.
	resumes      bool // it asked for a cursor
	acks         int
	acknowledged time.Time // all of the filters; zero until then
	onAck        func()
}

// handlerError tells what the handler returned from what the network did.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// begin forgets the connection before.
func (s *stream) begin() {
	s.resumes, s.acks, s.acknowledged = s.cursor != "", 0, time.Time{}
}

// pause returns how long to wait after a connection has ended.
func (s *stream) pause() time.Duration {
	if !s.acknowledged.IsZero() && time.Since(s.acknowledged) >= healthyAfter {
		s.backoff.reset()
	}
	return max(s.backoff.next(), s.retry)
}

// query returns the subscription as a URL carries it.
func (s *stream) query() url.Values {
	return url.Values{"filter": s.filters}
}

// connected tells that there is a connection.
func (s *stream) connected(u *url.URL) {
	if s.opts.Connected != nil {
		bare := *u
		bare.RawQuery = ""
		s.opts.Connected(bare.String())
	}
}

// receive takes one frame from the server. The error, if any, ends the connection.
func (s *stream) receive(frame []byte) error {
	m, err := wire.DecodeServerMessage(frame)
	if err != nil {
		s.client.log.Warn("frame skipped", slog.Any("err", err), slog.Int("bytes", len(frame)))
		return s.hand(wire.Gap{Reason: GapUndecodable})
	}
	switch m := m.(type) {
	case nil:
		s.client.log.Debug("frame of an unknown type ignored", slog.Int("bytes", len(frame)))
		return nil
	case wire.Pong:
		return nil
	case wire.Welcome:
		if err := s.hand(m); err != nil || s.opts.Transport != SSE {
			return err
		}
		return s.acknowledge(cursorText(cursorOf(m.Cursor), frame))
	case wire.Subscribed:
		if err := s.hand(m); err != nil {
			return err
		}
		if s.acks++; s.acks < len(s.filters) && s.overURL() {
			s.start(cursorText(m.Cursor, frame))
			return nil
		}
		return s.acknowledge(cursorText(m.Cursor, frame))
	case wire.Notification:
		if err := s.hand(m); err != nil {
			return err
		}
		s.cursor = cursorText(m.Cursor, frame)
		return nil
	case wire.Gap:
		if err := s.hand(m); err != nil {
			return err
		}
		s.cursor = cursorText(m.Cursor, frame)
		return nil
	case *wire.Error:
		if s.acknowledged.IsZero() {
			return fmt.Errorf("subscribe: %w", m)
		}
		return s.hand(m)
	case wire.Unsubscribed, wire.SourceStatus, wire.Bye, wire.Authenticated:
		return s.hand(m)
	}
	return nil
}

// acknowledge notes that the server delivers from here on.
func (s *stream) acknowledge(cursor string) error {
	if !s.acknowledged.IsZero() {
		return nil
	}
	s.acknowledged = time.Now()
	s.onAck()
	missed := s.followed && !s.resumes
	s.followed = true
	s.start(cursor)
	if missed {
		return s.hand(wire.Gap{Reason: GapNoCursor})
	}
	return nil
}

// start takes the position at which delivery starts. Not after a resume: where the
// server answers it with a gap, this position lies beyond what is missing, and a
// connection lost before the gap arrives must ask again from the old one.
func (s *stream) start(cursor string) {
	if !s.resumes && s.cursor == "" {
		s.cursor = cursor
	}
}

func (s *stream) hand(m wire.ServerMessage) error {
	if err := s.handle(m); err != nil {
		return &handlerError{err}
	}
	return nil
}

// cursorText returns the cursor of a frame. What wire.Cursor cannot hold is a cursor
// all the same, to be sent back as it came.
func cursorText(c wire.Cursor, frame []byte) string {
	if text := c.String(); text != "" {
		return text
	}
	var v struct {
		Cursor string `json:"cursor"`
	}
	if json.Unmarshal(frame, &v) != nil {
		return ""
	}
	return v.Cursor
}

func cursorOf(c *wire.Cursor) wire.Cursor {
	if c == nil {
		return wire.Cursor{}
	}
	return *c
}

// distinct returns the filters without repetitions, which are acknowledged once.
func distinct(filters []string) []string {
	var seen []string
	for _, f := range filters {
		if !slices.Contains(seen, f) {
			seen = append(seen, f)
		}
	}
	return seen
}
