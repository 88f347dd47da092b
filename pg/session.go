package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// closeTimeout bounds the goodbye to a server that may not be there any more.
const closeTimeout = time.Second

// errConnected keeps pgx from dialling again, to cancel what a lost listen connection
// was doing: it was only listening.
var errConnected = errors.New("connected already")

// session is one listen connection, from LISTEN until it is lost.
type session struct {
	conn   *pgx.Conn
	canary canary
	opened time.Time
	read   atomic.Int64 // when something was received last: nanoseconds after opened
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
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, connectError(config, err)
	}
	connected.Store(true)

	s := &session{conn: conn, opened: time.Now()}
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

// receiveUntil hands over what arrives until that time, or until deliver wants no more;
// then it returns nil. The error says why the connection is lost, why ctx is done, or is
// deliver's.
func (s *session) receiveUntil(ctx context.Context, until time.Time, deliver func(*pgconn.Notification, time.Time) (more bool, err error)) error {
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for more := true; more; {
		n, err := s.conn.WaitForNotification(wait)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.conn.IsClosed() || wait.Err() == nil:
			return err
		default:
			return nil
		}
		at := time.Now()
		s.read.Store(int64(at.Sub(s.opened)))
		if more, err = deliver(n, at); err != nil {
			return err
		}
	}
	return nil
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
