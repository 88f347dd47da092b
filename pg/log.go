package pg

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
type Log struct{ pool *pgxpool.Pool }

// OpenLog returns the database's log, or ErrNoLog.
func OpenLog(ctx context.Context, pool *pgxpool.Pool) (*Log, error) {
	l := &Log{pool: pool}
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
	// ID is the log's own name; Losses how often a notification could not be logged;
	// Timeline the server's: it changes when a standby is promoted, which may not have
	// got the last rows, and gives their numbers to others. Together they are the epoch
	// of its cursors: after a loss or a failover, no cursor from before can promise
	// anything.
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
	err := l.pool.QueryRow(ctx, `
		SELECT m.log_id, x.last_value, m.pruned_seq,
		       greatest(m.pruned_seq, (SELECT max(seq) FROM attune_live.notification_log)),
		       CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0') END
		FROM attune_live.meta m, attune_live.losses x`).Scan(&s.ID, &s.Losses, &s.Pruned, &s.Head, &s.Timeline)
	if err != nil {
		return s, fmt.Errorf("read the state of the notification log: %w", orNoLog(err))
	}
	return s, nil
}

// Head returns the latest seq.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	s, err := l.State(ctx)
	return s.Head, err
}

// Read returns the notifications with a seq in (after, upTo], oldest first and at
// most a chunk of them, and the seq up to which these are all. The error is a
// *wire.GapError when some of them may have been pruned. A row that is no
// notification, which only a hand can have put there, is passed over.
func (l *Log) Read(ctx context.Context, after, upTo uint64) (ns []wire.Notification, through uint64, err error) {
	ns, through, err = l.read(ctx, after, upTo)
	if err != nil {
		return nil, 0, fmt.Errorf("read the notification log: %w", orNoLog(err))
	}
	// A mark that is read after the rows and is not beyond their beginning proves that
	// none was missing.
	state, err := l.State(ctx)
	if err != nil {
		return nil, 0, err
	}
	if state.Pruned > after {
		return nil, 0, &wire.GapError{Reason: wire.GapCursorExpired}
	}
	return ns, through, nil
}

func (l *Log) read(ctx context.Context, after, upTo uint64) (ns []wire.Notification, through uint64, err error) {
	rows, err := l.pool.Query(ctx, `
		SELECT seq, channel, entity_type, entity_id, user_id, payload::text, created
		FROM attune_live.notification_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`,
		int64(after), int64(upTo), logChunkRows) //nolint:gosec // a seq is a bigint
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	count, size := 0, 0
	for size < logChunkBytes && rows.Next() {
		var seq uint64
		var channel, entityType, entityID, payload string
		var userID *int64
		var created time.Time
		if err := rows.Scan(&seq, &channel, &entityType, &entityID, &userID, &payload, &created); err != nil {
			return nil, 0, err
		}
		count, size, through = count+1, size+len(payload), seq
		n, err := live.Decode(channel, entityType, entityID, userID, []byte(payload))
		if err != nil {
			continue
		}
		n.Timestamp, n.Cursor.Offset = created, seq
		ns = append(ns, n)
	}
	if size < logChunkBytes && count < logChunkRows {
		through = upTo
	}
	rows.Close()
	return ns, through, rows.Err()
}
