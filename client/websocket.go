package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"attune/wire"
)

// overURL reports whether the filters stand in the WebSocket's URL. A cursor counts
// for the first subscribe frame alone, so several filters can only be resumed there;
// one filter is sent as a frame, which every server understands.
func (s *stream) overURL() bool { return s.opts.Transport == WebSocket && len(s.filters) > 1 }

// overWebSocket makes one connection and receives until it ends. The error is never nil.
func (s *stream) overWebSocket(ctx context.Context) error {
	u := s.client.endpoint("/ws", nil)
	if s.overURL() {
		query := s.query()
		if s.resumes {
			query.Set("cursor", s.cursor)
		}
		u.RawQuery = query.Encode()
	}
	u.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	life := newWatch(cancel)
	defer life.stop()

	conn, err := s.dial(ctx, u.String(), life)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", u.Redacted(), err)
	}
	defer conn.CloseNow() //nolint:errcheck // it has ended
	conn.SetReadLimit(maxMessage)
	s.connected(u)
	s.onAck = life.acknowledged

	var pings sync.WaitGroup
	defer pings.Wait()
	defer cancel(nil)
	pings.Go(func() { keepAlive(ctx, conn) })

	if !s.overURL() {
		m := wire.Subscribe{Filter: s.filters[0]}
		if s.resumes {
			m.Cursor = &s.cursor
		}
		if err := conn.Write(ctx, websocket.MessageText, wire.EncodeClientMessage(m)); err != nil {
			return fmt.Errorf("subscribe: %w", cause(ctx, err))
		}
	}
	for {
		_, frame, err := conn.Read(ctx)
		if errors.Is(err, websocket.ErrMessageTooBig) {
			s.cursor = "" // it would come again
		}
		if err != nil {
			return fmt.Errorf("connection lost: %w", plainClose(cause(ctx, err)))
		}
		life.pause()
		if err := s.receive(frame); err != nil {
			return err
		}
		life.resume()
	}
}

// dial makes the connection; a refusal is a *StatusError.
func (s *stream) dial(ctx context.Context, url string, life *watch) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient:   s.client.http,
		HTTPHeader:   s.client.header(),
		Subprotocols: []string{"attune.v1"},
		OnPingReceived: func(context.Context, []byte) bool {
			life.sign()
			return true
		},
		OnPongReceived: func(context.Context, []byte) { life.sign() },
	})
	if err == nil {
		return conn, nil
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, statusError(resp)
	}
	return nil, plain(cause(ctx, err))
}

// keepAlive pings until ctx is done. Whether an answer comes is the watch's to see.
func keepAlive(ctx context.Context, conn *websocket.Conn) {
	for sleep(ctx, pingInterval) {
		ping, cancel := context.WithTimeout(ctx, pingInterval)
		_ = conn.Ping(ping)
		cancel()
	}
}

// plainClose says of a close frame what it says, without how the library came to read it.
func plainClose(err error) error {
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		return fmt.Errorf("closed by the server: %s (%d)", cmp.Or(closed.Reason, "no reason given"), int(closed.Code))
	}
	return err
}

// cause returns why ctx ended the operation, or err when it did not.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
