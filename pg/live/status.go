package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// countMost is up to where rows are counted.
const countMost = 100_000

// Status is what the schema holds.
type Status struct {
	// LogID names this log in cursors; another log, another id.
	LogID         string `json:"log_id"`
	SchemaVersion int    `json:"schema_version"`
	// Rows is an estimate when it is above 100,000.
	Rows int64 `json:"rows"`
	// Bytes is what the log takes on disk.
	Bytes int64 `json:"bytes"`
	// OldestSeq and NewestSeq are 0 in an empty log.
	OldestSeq int64 `json:"oldest_seq"`
	NewestSeq int64 `json:"newest_seq"`
	// PrunedSeq is the number up to which rows may be gone.
	PrunedSeq int64      `json:"pruned_seq"`
	Oldest    *time.Time `json:"oldest"`
	Newest    *time.Time `json:"newest"`
	// Losses counts the notifications that could not be logged, since the installation.
	Losses  int64         `json:"losses"`
	Watches []WatchStatus `json:"watches"`
}

// WatchStatus is a table that is watched.
type WatchStatus struct {
	Table   string       `json:"table"`
	Options WatchOptions `json:"options"`
	// Problems say why changes are not told, or not all. Empty: all is well.
	Problems []string `json:"problems"`
}

// ReadStatus reads what the schema holds. The error wraps ErrNotInstalled if there is
// none.
func ReadStatus(ctx context.Context, db DB) (Status, error) {
	s, err := readStatus(ctx, db)
	if isUndefined(err) {
		err = ErrNotInstalled
	}
	if err != nil {
		return Status{}, fmt.Errorf("read the status of %s: %w", Schema, err)
	}
	return s, nil
}

func readStatus(ctx context.Context, db DB) (s Status, err error) {
	var estimate int64
	err = db.QueryRow(ctx, `
		SELECT m.log_id, m.schema_version, m.pruned_seq, l.last_value,
			coalesce(first.seq, 0), coalesce(latest.seq, 0), first.created, latest.created,
			pg_total_relation_size('attune_live.notification_log'),
			(SELECT count(*) FROM (SELECT FROM attune_live.notification_log LIMIT $1 + 1) counted),
			(SELECT reltuples::bigint FROM pg_class WHERE oid = 'attune_live.notification_log'::regclass)
		FROM attune_live.meta m CROSS JOIN attune_live.losses l
		LEFT JOIN LATERAL (SELECT seq, created FROM attune_live.notification_log
			WHERE seq > m.pruned_seq ORDER BY seq LIMIT 1) first ON true
		LEFT JOIN LATERAL (SELECT seq, created FROM attune_live.notification_log ORDER BY seq DESC LIMIT 1) latest ON true`, countMost,
	).Scan(&s.LogID, &s.SchemaVersion, &s.PrunedSeq, &s.Losses, &s.OldestSeq, &s.NewestSeq, &s.Oldest, &s.Newest,
		&s.Bytes, &s.Rows, &estimate)
	if err != nil {
		return Status{}, err
	}
	if s.Rows > countMost {
		s.Rows = max(s.Rows, estimate)
	}
	s.Watches, err = readWatches(ctx, db)
	return s, err
}

// readWatches reads the tables that are watched, and looks for what broke them since.
func readWatches(ctx context.Context, db DB) ([]WatchStatus, error) {
	rows, err := db.Query(ctx, `
		SELECT w.relation::oid, w.name, w.function, w.options, c.oid IS NOT NULL, coalesce(n.nspname::text, ''), coalesce(c.relname::text, '')
		FROM attune_live.watch w
		LEFT JOIN pg_class c ON c.oid = w.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
		ORDER BY w.name`)
	if err != nil {
		return nil, err
	}
	type entry struct {
		relation relation
		status   WatchStatus
		exists   bool
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e entry, err error) {
		var options []byte
		err = row.Scan(&e.relation.oid, &e.status.Table, &e.relation.function, &options, &e.exists, &e.relation.schema, &e.relation.name)
		if err == nil {
			err = json.Unmarshal(options, &e.status.Options)
		}
		return e, err
	})
	if err != nil {
		return nil, err
	}
	watches := make([]WatchStatus, 0, len(entries))
	for _, e := range entries {
		if !e.exists {
			e.status.Problems = []string{"the table was dropped"}
		} else {
			e.status.Table = ident(e.relation.schema, e.relation.name)
			if e.status.Problems, err = e.relation.problems(ctx, db, e.status.Options); err != nil {
				return nil, err
			}
		}
		watches = append(watches, e.status)
	}
	return watches, nil
}

// problems compares what a table is with what it was watched for.
func (r *relation) problems(ctx context.Context, db DB, o WatchOptions) ([]string, error) {
	problems := []string{}
	if err := r.readColumns(ctx, db); err != nil {
		return nil, err
	}
	if err := r.readTriggers(ctx, db); err != nil {
		return nil, err
	}
	if _, err := r.choose(o); err != nil {
		problems = append(problems, err.Error())
	}
	// An update may change the key, which is told as deleted and created.
	channels := map[string]string{"created": o.Created, "deleted": o.Deleted}
	for _, op := range append(operations(), "truncated") {
		i := slices.IndexFunc(r.triggers, func(t existing) bool { return t.name == triggerPrefix+op })
		switch {
		case channels[op] == NoChannel:
		case i < 0:
			problems = append(problems, "the trigger "+triggerPrefix+op+" is missing")
		case !r.triggers[i].enabled:
			problems = append(problems, "the trigger "+triggerPrefix+op+" is disabled")
		}
	}
	if len(problems) > 0 {
		return problems, nil
	}
	// A partition has come, a column's type was changed, a table has deferred triggers that
	// a commit may have to wait for, or there is a better script.
	now, err := lookUp(ctx, db, ident(r.schema, r.name))
	if err != nil {
		return append(problems, err.Error()), nil
	}
	script, err := now.watchScript(o)
	switch {
	case err != nil:
		problems = append(problems, err.Error())
	case script != "":
		problems = append(problems, "what it is watched with is out of date: watch it again")
	}
	return problems, nil
}

// ErrNotWatched says that a table is not watched.
var ErrNotWatched = errors.New("it is not watched")

// isUndefined reports whether a statement named what does not exist.
func isUndefined(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (server.Code == "42P01" || server.Code == "3F000" || strings.HasPrefix(server.Code, "42883"))
}
