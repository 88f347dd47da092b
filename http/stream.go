package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"attune/auth"
	"attune/broadcast"
	"attune/wire"
)

// errGoodbye ends streams when the server shuts down.
var errGoodbye = errors.New("server going away")

// transport is what WebSocket and Server-Sent Events do differently. Its methods are
// called in turns of the stream.
type transport interface {
	// encode returns a message as the transport's clients get it; shared, not copied.
	encode(frame *wire.Frame) []byte
	// answers returns what the peer is owed besides messages, nil: nothing.
	answers() []byte
	// keepAlive returns what to write now that the time has come, and when it comes
	// next; the error ends the stream.
	keepAlive(now time.Time) (b []byte, next time.Duration, err error)
	// goodbye tells the peer why its stream ends, nil: there is nothing to tell.
	goodbye(why error) []byte
	// lingers reports whether the peer may still have something to say after the goodbye.
	lingers() bool
}

// stream is one client that follows the hub, on a connection of its own.
//
// At rest it has one goroutine, which reads, and no buffer. All else is done in
// turns, one at a time: deliver what the subscriber got, keep the connection alive, say
// goodbye, clean up. What the hub has for it is delivered in a quick turn from the
// server's queue, as far as that needs no waiting. For all else there is a goroutine
// for as long as there is something to do; whoever has something says so with kick.
type stream struct {
	transport

	server *Server
	conn   conn
	raw    syscall.RawConn // of conn, where it is a socket
	sub    *broadcast.Subscriber
	grant  *auth.Grant // what may be seen, and for how long
	tally  *tally
	leave  func()        // gives back the place that admit gave; nil: it gave none
	run    func()        // takes turns
	timer  *time.Timer   // kicks when keepAlive is due
	first  time.Duration // until keepAlive is due

	turns atomic.Int64 // asked for; above 0, somebody sees to them
	due   atomic.Bool  // keepAlive
	gone  atomic.Bool  // nothing more will be read
	why   atomic.Pointer[error]
	told  atomic.Bool // the goodbye is said; stored in turns only

	queued    atomic.Int32 // where it is in the server's turnQueue
	soon      int32        // see turnQueue.busy
	delivered atomic.Int64 // when something was last delivered: nanoseconds after the server's start
	unsent    []byte       // begun in a quick turn; touched in turns only
}

// conn is what a stream writes to: a connection that was taken over from net/http,
// or an answer of HTTP/2's.
type conn interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// follow connects the stream to the hub. Turns are taken from start on.
func (c *stream) follow(s *Server, t transport, req streamRequest) wire.Mode {
	c.server, c.transport, c.grant = s, t, req.grant
	c.turns.Store(1) // start's
	sub, mode := s.Hub.Connect(append(req.options, broadcast.OnReady(func(now bool) { s.queue.add(c, now) }))...)
	c.sub = sub
	return mode
}

// start begins to serve the client: with greeting, then with what the subscriber
// gets. read waits for something to read, handles it, and reports whether there is
// more to come; it is called until there is not.
func (c *stream) start(ctx context.Context, greeting []byte, read func() (more bool)) {
	s := c.server
	s.streams.Add(1) // until it is released
	s.open.add(c)
	if socket, ok := c.conn.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn()
	}
	if c.leave != nil {
		c.tally.connections.Inc()
	}
	if err := c.send(greeting); err != nil {
		c.end(err)
	}
	c.timer = time.AfterFunc(c.first, func() {
		c.due.Store(true)
		c.kick()
	})
	c.run = func() { c.takeTurns(ctx) }
	c.grant.Watch(c.sub.End)
	go c.run()
	c.read(ctx, read)
	select {
	case <-s.closing: // goodbyes may have been said before this stream was there
		c.end(errGoodbye)
	default:
	}
}

// read calls read in a goroutine of its own, and in another one from then on: a
// goroutine that has handled something keeps the stack that it needed for it.
func (c *stream) read(ctx context.Context, read func() (more bool)) {
	c.server.streams.Go(func() {
		more := false
		defer func() {
			if more {
				c.read(ctx, read)
				return
			}
			c.gone.Store(true)
			c.kick()
		}()
		defer c.survive(ctx, func() { c.end(errors.New("panic")) })
		more = read()
	})
}

// kick has a turn taken. It is quick, and harmless after the end.
func (c *stream) kick() {
	if c.turns.Add(1) == 1 {
		go c.run()
	}
}

// end ends the stream for that reason, unless there is one already.
func (c *stream) end(why error) {
	c.why.CompareAndSwap(nil, &why)
	c.kick()
}

// takeTurns takes turns until there is nothing to do. A goroutine begins with a small
// stack, and one that needs no more starts much faster: what is below here is flat.
func (c *stream) takeTurns(ctx context.Context) {
	defer c.survive(ctx, c.release)
	for {
		asked := c.turns.Load()
		if over := c.turn(ctx); over {
			return // turns stay above 0: there is no other
		}
		if c.turns.CompareAndSwap(asked, 0) {
			return
		}
		runtime.Gosched() // whoever has much to deliver lets the others go first
	}
}

// quickTurn takes a turn that delivers what the socket takes at once, and no more than
// one write's worth: the rest has to wait for its turn again. Where there is more to it
// than that, a goroutine goes on with the turn.
func (c *stream) quickTurn() {
	if c.turns.Add(1) > 1 {
		return // somebody sees to it
	}
	defer c.survive(context.Background(), c.release)
	if !c.deliverAtOnce() || !c.turns.CompareAndSwap(1, 0) {
		go c.run()
	}
}

// turn does what there is to do, and reports whether the stream is over.
func (c *stream) turn(ctx context.Context) (over bool) {
	if !c.told.Load() {
		if err := c.serve(ctx); err != nil {
			c.farewell(ctx, err)
		}
	}
	if !c.gone.Load() {
		if c.told.Load() && !c.lingers() {
			_ = c.conn.Close() // ends the reader
		}
		return false
	}
	c.release()
	return true
}

// serve delivers and keeps alive; the error is why the stream is to end.
func (c *stream) serve(ctx context.Context) error {
	// Looked at first, so that what the client was answered before goes out.
	why := c.why.Load()
	if b := c.unsent; b != nil {
		c.unsent = nil
		if err := c.send(b); err != nil {
			return err
		}
	}
	if b := c.answers(); b != nil {
		if err := c.send(b); err != nil {
			return err
		}
	}
	if err := c.deliver(ctx); err != nil {
		return err
	}
	if why != nil {
		return *why
	}
	if !c.due.Swap(false) {
		return nil
	}
	b, next, err := c.keepAlive(time.Now())
	if err != nil {
		return err
	}
	c.timer.Reset(next)
	return c.send(b)
}

// deliver writes what there is for the client now, many frames in a write: a write costs
// far more than a frame.
func (c *stream) deliver(ctx context.Context) error {
	batch := c.server.patient.get()
	defer c.server.patient.put(batch)
	var err error
	if batch.frames, err = c.sub.Take(ctx, batch.frames); err != nil || len(batch.frames) == 0 {
		return err
	}
	for batch.more() {
		if err := batch.send(c, batch.next(c)); err != nil {
			return err
		}
	}
	c.countDelivered(batch)
	return nil
}

// deliverAtOnce delivers a write's worth without waiting. It returns false when there
// is more to do, of whatever kind.
func (c *stream) deliverAtOnce() (done bool) {
	if c.raw == nil || c.told.Load() {
		return false
	}
	batch := c.server.quick.get()
	defer c.server.quick.put(batch)
	var left, ok bool
	if batch.frames, left, ok = c.sub.TakeQueued(batch.frames, quickSize); !ok {
		return false
	}
	for batch.more() {
		out := batch.next(c)
		if n := batch.try.write(c.raw, out); n < len(out) {
			c.unsent = bytes.Clone(out[n:])
			for batch.more() {
				c.unsent = append(c.unsent, batch.next(c)...)
			}
		}
	}
	c.countDelivered(batch)
	if left {
		c.server.queue.add(c, true)
	}
	return c.unsent == nil
}

// countDelivered is called in turns.
func (c *stream) countDelivered(b *batch) {
	c.delivered.Store(int64(time.Since(c.server.started)))
	c.tally.deliveries.Add(float64(notifications(b.frames)))
}

// send writes, each chunk under a deadline of its own: a client that reads slowly is
// served, one that does not read at all is not waited for.
func (c *stream) send(b []byte) error {
	for len(b) > 0 {
		chunk := b[:min(len(b), writeChunk)]
		if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return fmt.Errorf("set write deadline: %w", err)
		}
		if _, err := c.conn.Write(chunk); err != nil {
			return writeError(err)
		}
		b = b[len(chunk):]
	}
	if c.raw != nil {
		return c.conn.SetWriteDeadline(time.Time{}) // it would end attempts, too
	}
	return nil
}

// farewell tells the client why its stream ends, and leaves it some time to go.
func (c *stream) farewell(ctx context.Context, why error) {
	if errors.Is(why, broadcast.ErrSlowConsumer) || errors.Is(why, errWriteTimeout) {
		c.tally.slow.Inc()
	}
	c.server.Logger.DebugContext(ctx, "stream ended", slog.String("transport", c.tally.transport), slog.Any("err", why))
	c.told.Store(true)
	c.timer.Stop()
	c.sub.Close()
	b := c.goodbye(why)
	if b == nil || c.send(b) != nil {
		_ = c.conn.Close()
		return
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(writeTimeout))
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && c.lingers() {
		_ = half.CloseWrite() // a peer that waits for the end sees it
	}
}

// release gives back all that the stream has.
func (c *stream) release() {
	c.timer.Stop()
	c.grant.Stop()
	c.sub.Close()
	_ = c.conn.Close()
	c.server.open.remove(c)
	if c.leave != nil {
		c.tally.connections.Dec()
		c.leave()
	}
	c.server.streams.Done()
}

// survive logs a panic, which net/http would catch in a goroutine of its own, and
// does what else it takes.
func (c *stream) survive(ctx context.Context, then func()) {
	v := recover()
	if v == nil {
		return
	}
	c.server.Logger.ErrorContext(ctx, "stream panicked", slog.Any("err", v), slog.String("stack", string(debug.Stack())))
	then()
}

// writeError tells a client that does not take what is written from one that has gone.
func writeError(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", errWriteTimeout, err)
	}
	return err
}

// errWriteTimeout: the client did not take what was written in time.
var errWriteTimeout = errors.New("slow consumer: write timeout")

// notifications counts those among frames.
func notifications(frames []*wire.Frame) (n int) {
	for _, frame := range frames {
		if _, ok := frame.Message.(wire.Notification); ok {
			n++
		}
	}
	return n
}

// welcome numbers a client and greets it.
func (s *Server) welcome(mode wire.Mode) wire.Welcome {
	return wire.Welcome{
		ClientID: fmt.Sprintf("client_%d", s.clients.Add(1)),
		Message:  "Connected to Attune Notifier",
		Mode:     mode,
	}
}

// openStreams are those that are there. net/http has forgotten their connections.
type openStreams struct {
	mu   sync.Mutex
	open map[*stream]struct{}
}

func (s *openStreams) add(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*stream]struct{})
	}
	s.open[c] = struct{}{}
}

func (s *openStreams) remove(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// all returns them in no order.
func (s *openStreams) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*stream, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

// cut closes all of their connections without a word.
func (s *openStreams) cut() {
	for _, c := range s.all() {
		_ = c.conn.Close()
	}
}
