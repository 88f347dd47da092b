package pg

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg/live"
	"attune/wire"
)

// What one read of the log returns at most, whichever comes first; a single row may
// be larger.
const (
	logChunkRows  = 256
	logChunkBytes = 1 << 20
)

// ErrNoLog says that the database has no attune_live.notification_log.
var ErrNoLog = errors.New("the database has no attune_live.notification_log")

// Log reads attune_live.notification_log, in which every notification has a seq in
// commit order.
type Log struct {
	pool *pgxpool.Pool
	// reading holds a token for each Read that is under way: many clients that come back at
	// once leave connections to the canary, without which the source would look deaf.
	reading chan struct{}
}

// OpenLog returns the database's log, or ErrNoLog.
func OpenLog(ctx context.Context, pool *pgxpool.Pool) (*Log, error) {
	l := &Log{pool: pool, reading: make(chan struct{}, max(1, pool.Config().MaxConns/2))}
	if _, err := l.State(ctx); err != nil {
		if errors.Is(err, ErrNoLog) {
			return nil, ErrNoLog
		}
		return nil, err
	}
	return l, nil
}

// orNoLog returns ErrNoLog for what PostgreSQL says where there is none.
func orNoLog(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && (server.Code == stateUndefinedTable || server.Code == stateNoSchema) {
		return ErrNoLog
	}
	return err
}

// LogState is where the log stands.
type LogState struct {
	// ID names the log, and differs for a copy of it; Losses is how often a notification
	// could not be logged; Timeline the server's: it changes when a standby is promoted,
	// which may not have got the last rows, and gives their numbers to others. Together
	// they are the epoch of its cursors: after a loss or a failover, and on a copy, no
	// cursor from before can promise anything.
	ID       string
	Losses   uint64
	Timeline string
	// Head is the latest seq, Pruned the latest that may be gone.
	Head, Pruned uint64
}

// Epoch returns the epoch of the log's cursors.
func (s LogState) Epoch() string {
	return s.ID + "-" + strconv.FormatUint(s.Losses, 10) + "-" + s.Timeline
}

// State reads where the log stands.
func (l *Log) State(ctx context.Context) (LogState, error) {
	var s LogState
	var name, place string
	err := l.pool.QueryRow(ctx, `
		SELECT m.log_id, concat_ws(' ', c.system_identifier, d.oid, m.tableoid), x.last_value, m.pruned_seq,
		       greatest(m.pruned_seq, (SELECT max(seq) FROM attune_live.notification_log)),
		       CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0') END
		FROM attune_live.meta m, attune_live.losses x, pg_control_system() c, pg_database d
		WHERE d.datname = current_database()`).Scan(&name, &place, &s.Losses, &s.Pruned, &s.Head, &s.Timeline)
	if err != nil {
		return s, fmt.Errorf("read the state of the notification log: %w", orNoLog(err))
	}
	s.ID = logID(name, place)
	return s, nil
}

// logID returns a short ID for a log of that name in that place: cluster, database and
// table. A copy of a database has another one, and so has what was restored from a dump,
// although its rows are the same; a standby has the same.
func logID(name, place string) string {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name+" "+place) // never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// CountLoss counts a loss, which ends all cursors that there are, and returns the state
// with it.
func (l *Log) CountLoss(ctx context.Context) (LogState, error) {
	if _, err := l.pool.Exec(ctx, `SELECT nextval('attune_live.losses')`); err != nil {
		return LogState{}, fmt.Errorf("count a loss: %w", err)
	}
	return l.State(ctx)
}

// Head returns the latest seq.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	s, err := l.State(ctx)
	return s.Head, err
}

// Read returns the notifications with a seq in (after, upTo], oldest first and at
// most a chunk of them, and the seq up to which these are all. The error is a
// *wire.GapError when some of them may have been pruned, or the next row is no
// notification.
func (l *Log) Read(ctx context.Context, after, upTo uint64) (ns []wire.Notification, through uint64, err error) {
	select {
	case l.reading <- struct{}{}:
		defer func() { <-l.reading }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	c, err := l.read(ctx, l.pool, after, upTo)
	if err == nil {
		err = l.prove(ctx, after)
	}
	if err == nil && len(c.refused) > 0 {
		err = &wire.GapError{Reason: wire.GapSourceOverflow}
	}
	if err != nil {
		return nil, 0, err
	}
	if !c.full {
		c.through = upTo
	}
	return c.notifications, c.through, nil
}

// next reads what comes after, as far as it was committed by now. The error is a
// *wire.GapError when some of it may have been pruned. It is made for being called often:
// session is a connection that keeps what was prepared, and that no row was pruned is proved
// only where there are some left.
func (l *Log) next(ctx context.Context, session *pgx.Conn, after uint64) (logChunk, error) {
	c, err := l.read(ctx, session, after, math.MaxInt64, pgx.QueryExecModeCacheStatement)
	if err == nil && c.through != after+c.rows { // else they follow each other, and need no proof
		err = l.prove(ctx, after)
	}
	return c, err
}

// prove returns a *wire.GapError unless all rows after that seq were there when they
// were read: a mark that is read after the rows and is not beyond their beginning proves
// that none was missing.
func (l *Log) prove(ctx context.Context, after uint64) error {
	state, err := l.State(ctx)
	if err == nil && state.Pruned > after {
		return &wire.GapError{Reason: wire.GapCursorExpired}
	}
	return err
}

// logChunk is what one read returned: notifications, or rows that follow each other and are
// none, so that whoever is told of the latter is told in their place.
type logChunk struct {
	notifications []wire.Notification
	refused       []refusedRow
	rows          uint64 // of either kind
	through       uint64 // the seq of the last row
	full          bool   // there may be more
}

// refusedRow is a row that is no notification: PostgreSQL takes for text, or for JSON, what
// its readers do not, and anybody may have a hand in the table.
type refusedRow struct {
	seq     uint64
	channel string
	err     error // does not tell the content
}

// querier is a pool or a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// The columns of a row that are text. What SQL_ASCII takes for text PostgreSQL may refuse to
// send as such, and the whole read with it.
const (
	asText  = `channel, entity_type, entity_id, payload::text`
	asBytes = `convert_to(channel, 'SQL_ASCII'), convert_to(entity_type, 'SQL_ASCII'), convert_to(entity_id, 'SQL_ASCII'), convert_to(payload::text, 'SQL_ASCII')`
)

func (l *Log) read(ctx context.Context, from querier, after, upTo uint64, options ...any) (logChunk, error) {
	c, err := l.query(ctx, from, asText, after, upTo, options...)
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == stateNotInEncoding {
		c, err = l.query(ctx, from, asBytes, after, upTo, options...)
	}
	if err != nil {
		return c, fmt.Errorf("read the notification log: %w", orNoLog(err))
	}
	return c, nil
}

func (l *Log) query(ctx context.Context, from querier, columns string, after, upTo uint64, options ...any) (logChunk, error) {
	c := logChunk{through: after}
	// What is too much at once is not sent: before is what the rows before take, with some
	// bytes that are not the payload's own.
	rows, err := from.Query(ctx, `
		SELECT seq, created, user_id, `+columns+`
		FROM (SELECT *, sum(pg_column_size(payload)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - pg_column_size(payload) AS before
		      FROM (SELECT * FROM attune_live.notification_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) l) l
		WHERE before < $4 ORDER BY seq`,
		append(options, int64(after), int64(upTo), logChunkRows, logChunkBytes+16*logChunkRows)...) //nolint:gosec // a seq is a bigint
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for size := 0; size < logChunkBytes && rows.Next(); {
		var seq uint64
		var channel, entityType, entityID, payload pgtype.DriverBytes
		var userID *int64
		var created time.Time
		if err := rows.Scan(&seq, &created, &userID, &channel, &entityType, &entityID, &payload); err != nil {
			return c, err
		}
		n, err := live.Decode(string(channel), string(entityType), string(entityID), userID, string(payload))
		if c.rows > 0 && (err != nil) != (len(c.refused) > 0) {
			c.full = true
			break
		}
		c.rows, c.through, size = c.rows+1, seq, size+len(payload)
		c.full = c.rows == logChunkRows || size >= logChunkBytes
		if err != nil {
			c.refused = append(c.refused, refusedRow{seq, string(channel), err})
			continue
		}
		n.Timestamp, n.Cursor.Offset = created, seq
		c.notifications = append(c.notifications, n)
	}
	rows.Close()
	return c, rows.Err()
}
