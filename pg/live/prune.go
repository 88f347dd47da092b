package live

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// defaultBatch is how many rows one transaction of Prune looks at.
const defaultBatch = 1000

// Retention says what of the log is kept. Zero is no limit.
type Retention struct {
	MaxAge  time.Duration
	MaxRows int64
	// Batch is how many rows one transaction looks at; zero means 1000.
	Batch int
}

// Prune deletes from the beginning of the log what is beyond the retention, batch by
// batch, each in a short transaction of its own, and returns how many rows it
// deleted. Nobody waits for it: it locks no row that anybody writes, and where
// another process is pruning it leaves the work to that.
func Prune(ctx context.Context, db DB, r Retention) (deleted int64, err error) {
	if r.Batch <= 0 {
		r.Batch = defaultBatch
	}
	last, err := r.surplus(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("prune the log: %w", err)
	}
	for {
		n, more, err := r.pruneBatch(ctx, db, last)
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("prune the log: %w", err)
		}
		if !more {
			return deleted, nil
		}
	}
}

// surplus returns the seq up to which there are rows beyond MaxRows.
func (r Retention) surplus(ctx context.Context, db DB) (last int64, err error) {
	if r.MaxRows <= 0 {
		return 0, nil
	}
	err = db.QueryRow(ctx, `SELECT seq FROM attune_live.notification_log ORDER BY seq DESC OFFSET $1 LIMIT 1`, r.MaxRows).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return last, err
}

// pruneBatch deletes from the next rows those that are beyond the retention. more
// says that all of them were.
func (r Retention) pruneBatch(ctx context.Context, db DB, surplus int64) (deleted int64, more bool, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var mine bool
		err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended('attune_live.prune', 0))`).Scan(&mine)
		if err != nil || !mine {
			return err
		}
		// From pruned_seq on, so that the dead rows before it are not walked over again.
		// The age is the database's own: its clock wrote created.
		var last *int64
		err = tx.QueryRow(ctx, `
			WITH next AS (
				SELECT l.seq, l.seq <= $1 OR l.created < clock_timestamp() - make_interval(secs => $2) AS doomed
				FROM attune_live.notification_log l, attune_live.meta m
				WHERE l.seq > m.pruned_seq ORDER BY l.seq LIMIT $3
			), last AS (
				SELECT max(seq) AS seq FROM next
				WHERE doomed AND seq < coalesce((SELECT min(seq) FROM next WHERE doomed IS NOT TRUE), 9223372036854775807)
			), gone AS (
				DELETE FROM attune_live.notification_log
				WHERE seq > (SELECT pruned_seq FROM attune_live.meta) AND seq <= (SELECT seq FROM last) RETURNING 1
			)
			SELECT (SELECT seq FROM last), (SELECT count(*) FROM gone)`,
			surplus, r.maxAge(), r.Batch).Scan(&last, &deleted)
		if err != nil || last == nil {
			return err
		}
		more = deleted == int64(r.Batch)
		_, err = tx.Exec(ctx, `UPDATE attune_live.meta SET pruned_seq = $1`, *last)
		return err
	})
	if err == nil && !more {
		// What committed here is the rest of a notification that was lost.
		_, err = db.Exec(ctx, `DELETE FROM attune_live.outbox`)
	}
	return deleted, more, err
}

// maxAge returns the age in seconds, nil if it does not matter.
func (r Retention) maxAge() *float64 {
	if r.MaxAge <= 0 {
		return nil
	}
	seconds := r.MaxAge.Seconds()
	return &seconds
}
