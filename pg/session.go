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

// readSize is what pgx reads at once, in bytes.
const readSize = 8 << 10

// errConnected keeps pgx from dialling again, to cancel what a lost listen connection
// was doing: it was only listening.
var errConnected = errors.New("connected already")

// session is one listen connection, from LISTEN until it is lost.
type session struct {
	conn   *pgx.Conn
	canary canary
	gather gather
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

// receiveUntil hands over what arrives until that time, what was read at once together and
// whether there is more unread, or until deliver wants no more; then it returns nil. The
// error says why the connection is lost, why ctx is done, or is deliver's.
func (s *session) receiveUntil(ctx context.Context, until time.Time, deliver func(ns []*pgconn.Notification, unread bool, at time.Time) (more bool, err error)) error {
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var batch []*pgconn.Notification
	for more := true; more; {
		ns, unread, lost := s.receive(wait, batch[:0])
		batch = ns
		at := time.Now()
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
		case s.conn.IsClosed() || wait.Err() == nil:
			return lost
		default:
			return nil
		}
		if s.gather.read(at, len(ns), unread) && more {
			sleep(ctx, gatherFor)
		}
	}
	return nil
}

// receive waits for a notification, and returns it and what was read with it, appended to
// dst, or readSize of that; unread says that there is more. With an error, they are
// those that came before it.
func (s *session) receive(ctx context.Context, dst []*pgconn.Notification) (ns []*pgconn.Notification, unread bool, err error) {
	const frame = 1 + 4 + 4 + 1 + 1 // type, length, pid, and the ends of two strings
	n, err := s.conn.WaitForNotification(ctx)
	if err != nil {
		return dst, false, err
	}
	dst = append(dst, n)
	// From here on a read would time out at once: what pgx has is taken, and no more. It
	// keeps what it has of a message that is not all there.
	line := s.conn.PgConn().Conn()
	if err := line.SetReadDeadline(s.opened); err != nil {
		return dst, false, err
	}
	for size := 0; size < readSize; size += frame + len(n.Channel) + len(n.Payload) {
		if n, err = s.conn.WaitForNotification(context.Background()); err != nil {
			break
		}
		dst = append(dst, n)
	}
	if err != nil && !pgconn.Timeout(err) {
		return dst, false, err
	}
	return dst, err == nil || s.conn.PgConn().Frontend().ReadBufferLen() > 0, line.SetReadDeadline(time.Time{})
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
