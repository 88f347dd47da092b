package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// closeTimeout bounds the goodbye to a server that may not be there any more.
const closeTimeout = time.Second

// errConnected keeps pgx from dialling again, to cancel what a lost listen connection
// was doing: it was only listening.
var errConnected = errors.New("connected already")

// session is one listen connection, from LISTEN until it is lost.
type session struct {
	conn     *pgx.Conn
	tap      *tap
	canary   canary
	gather   gather
	restless bool  // the server refused to rest
	lost     error // while it rested
	opened   time.Time
	read     atomic.Int64 // when something was received last: nanoseconds after opened
}

// listen connects and listens on channels, all in one round trip. The caller must
// close the session.
func listen(ctx context.Context, config *pgx.ConnConfig, channels []string) (*session, error) {
	config = config.Copy()
	var connected atomic.Bool
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, errConnected
		}
		return dial(ctx, network, address)
	}
	var connection *tap // of the last address that was tried
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		connection = newTap(r)
		return pgproto3.NewFrontend(connection, w)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectError(config, err)
	}
	connected.Store(true)

	s := &session{conn: conn, tap: connection, opened: time.Now()}
	var statements strings.Builder
	for _, name := range channels {
		statements.WriteString("LISTEN " + pgx.Identifier{name}.Sanitize() + "; ")
	}
	ctx, cancel := context.WithTimeout(ctx, config.ConnectTimeout)
	defer cancel()
	if _, err := conn.PgConn().Exec(ctx, statements.String()).ReadAll(); err != nil {
		s.close()
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == stateReadOnly {
			return nil, connectError(config, errStandby)
		}
		return nil, fmt.Errorf("listen on %s: %w%s", target(config), err, remedy(err))
	}
	return s, nil
}

// receiveUntil hands over what arrives until that time, what was read at once together and
// whether there is more unread, or until deliver wants no more; then it returns nil. The
// error says why the connection is lost, why ctx is done, or is deliver's.
func (s *session) receiveUntil(ctx context.Context, until time.Time, deliver func(ns []notification, unread bool, at time.Time) (more bool, err error)) error {
	// A deadline in the past ends a wait. Contexts of their own would cost waits too much.
	stop := context.AfterFunc(ctx, func() { _ = s.conn.PgConn().Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for more := true; more; {
		ns, lost := s.receive(ctx, until)
		at, unread := time.Now(), s.tap.unread()
		if len(ns) > 0 {
			s.read.Store(int64(at.Sub(s.opened)))
			var err error
			if more, err = deliver(ns, unread, at); err != nil {
				return err
			}
		}
		switch {
		case lost == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.conn.IsClosed() || !errors.Is(lost, os.ErrDeadlineExceeded):
			return lost
		default:
			return nil
		}
		if s.gather.read(at, len(ns), unread) && more {
			s.rest(ctx)
		}
	}
	return nil
}

// receive waits for a notification until that time, and returns it and what was read with
// it. With an error, they are those that came before it.
func (s *session) receive(ctx context.Context, until time.Time) ([]notification, error) {
	s.tap.forget()
	switch {
	case s.tap.any():
		return s.tap.take(), ctx.Err()
	case s.lost != nil:
		return nil, s.lost
	}
	err := s.wait(ctx, until)
	return s.tap.take(), err
}

// wait waits until there is a notification. What else the server says, pgx is told.
func (s *session) wait(ctx context.Context, until time.Time) error {
	socket := s.conn.PgConn().Conn()
	if err := socket.SetReadDeadline(until); err != nil {
		return err
	}
	// Whoever else uses the connection has deadlines of his own.
	defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	for ctx.Err() == nil { // from here on, its end ends the wait
		if err := s.tap.wait(); err != nil || s.tap.any() {
			return err
		}
		if _, err := s.conn.PgConn().ReceiveMessage(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// rest has notifications gather for a while. PostgreSQL sends none while a statement runs:
// its process is told of each commit still, but reads and sends them all at once. Whether
// the connection was lost, the next receive tells, after what came before that.
func (s *session) rest(ctx context.Context) {
	if s.restless {
		sleep(ctx, gatherFor)
		return
	}
	_, err := s.conn.PgConn().Exec(ctx, gatherStatement()).ReadAll()
	_, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
	case answered && !s.conn.IsClosed():
		s.restless = true
	case !answered && s.tap.broken != nil:
		s.lost = s.tap.broken
	default:
		s.lost = err
	}
}

// lastRead returns when something was received last.
func (s *session) lastRead() time.Time { return s.opened.Add(time.Duration(s.read.Load())) }

// pid returns the id of the server's process, as the other end of the line tells it.
func (s *session) pid() uint32 { return s.conn.PgConn().PID() }

// close ends the connection and returns when nothing of it is left.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	conn := s.conn.PgConn()
	_ = conn.Close(ctx)     // says goodbye where there is somebody to hear it
	_ = conn.Conn().Close() // ends pgx's wait for more from a connection that broke
	<-conn.CleanupDone()
}
