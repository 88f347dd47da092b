package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/wire"
)

// errInterrupted is why an action ends whose execution is canceling, or is over.
var errInterrupted = errors.New("the execution was cancelled")

// reaper ends the executions whose process died, and those of this process that were
// cancelled without its being told.
type reaper struct {
	pool     *pgxpool.Pool
	store    Store
	queue    string
	locks    *locks
	interval time.Duration
	logger   *slog.Logger
}

// attempt is a job in somebody's hands.
type attempt struct {
	Job       int64
	Attempt   int
	Execution int64
}

// run looks on every interval until ctx is done.
func (p *reaper) run(ctx context.Context) {
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	var suspects map[attempt]bool
	for first := true; ; {
		found, err := p.look(ctx, suspects, first)
		// What was seen before a failure is forgotten: when the database was away,
		// everybody is about to take his locks again.
		suspects = found
		if err == nil {
			first = false
			err = p.interruptCancelled(ctx)
		}
		if err != nil && ctx.Err() == nil {
			p.logger.WarnContext(ctx, "abandoned executions were not looked for", slog.Any("err", err), slog.Duration("retry_in", p.interval))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look ends the executions that were suspects already and returns those that are now.
// A lock that is free once proves nothing: its holder may be about to take it, or to
// take it again.
func (p *reaper) look(ctx context.Context, before map[attempt]bool, first bool) (map[attempt]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, max(p.interval, writeTimeout))
	defer cancel()
	// Discarded jobs are those that failed too often before they were started. Only
	// the first look goes through all of them.
	seen := []int64{}
	for a := range before {
		seen = append(seen, a.Job)
	}
	rows, err := p.pool.Query(ctx, `
		SELECT id, attempt, (args->>'execution_id')::bigint FROM `+schema+`.river_job
		WHERE queue = $1 AND kind = $2 AND state = 'running'
		UNION ALL
		SELECT j.id, j.attempt, x.id
		FROM `+schema+`.river_job j JOIN `+p.store.Table()+` x ON x.id = (j.args->>'execution_id')::bigint
		WHERE j.queue = $1 AND j.kind = $2 AND j.state IN ('discarded', 'cancelled')
			AND ($3 OR j.finalized_at > now() - interval '5 minutes' OR j.id = ANY ($5)) AND x.status::text <> ALL ($4::text[])`,
		p.queue, jobArgs{}.Kind(), first, terminal(), seen)
	if err != nil {
		return nil, fmt.Errorf("read the running jobs: %w", err)
	}
	attempts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[attempt])
	if err != nil {
		return nil, fmt.Errorf("read the running jobs: %w", err)
	}
	mine := p.locks.ids()
	suspects := make(map[attempt]bool)
	for _, a := range attempts {
		if slices.Contains(mine, a.Execution) {
			continue
		}
		free, err := p.probe(ctx, a, before[a])
		if err != nil {
			return nil, fmt.Errorf("probe execution %d: %w", a.Execution, err)
		}
		if free && !before[a] {
			suspects[a] = true
		}
	}
	return suspects, nil
}

// probe reports whether nobody holds the execution's lock. If so and dead is set, it
// ends the execution and its job.
func (p *reaper) probe(ctx context.Context, a attempt, dead bool) (free bool, err error) {
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2))`,
			lockName(p.store.Table()), a.Execution).Scan(&free)
		if err != nil || !free || !dead {
			return err
		}
		return p.bury(ctx, tx, a)
	})
	return free, err
}

// bury ends the execution of a dead process, and its job, unless both have gone on
// meanwhile: then the job is another attempt's, or finished.
func (p *reaper) bury(ctx context.Context, tx pgx.Tx, a attempt) error {
	var state string
	err := tx.QueryRow(ctx, `SELECT state::text FROM `+schema+`.river_job WHERE id = $1 AND attempt = $2`, a.Job, a.Attempt).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read job %d: %w", a.Job, err)
	}
	if !slices.Contains([]string{"running", "discarded", "cancelled"}, state) {
		return nil
	}
	for _, end := range []struct {
		from   []wire.Status
		to     wire.Status
		result json.RawMessage
	}{
		{[]wire.Status{wire.StatusCanceling}, wire.StatusCancelled, nil},
		{append(waiting(), wire.StatusRunning), wire.StatusAbandoned, failure(errors.New("its process ended before it did"))},
	} {
		x, done, err := p.store.Transition(ctx, tx, a.Execution, end.from, end.to, end.result)
		if e, ok := errors.AsType[*wire.Error](err); ok && e.Code == wire.CodeNotFound {
			break // deleted: only the job is left
		}
		if err != nil {
			return err
		}
		if done {
			p.logger.WarnContext(ctx, "execution ended for its dead process", slog.Int64("execution", x.ID), slog.String("status", string(x.Status)))
			break
		}
	}
	_, err = tx.Exec(ctx, `
		UPDATE `+schema+`.river_job SET state = 'discarded', finalized_at = now()
		WHERE id = $1 AND attempt = $2 AND state = 'running'`, a.Job, a.Attempt)
	if err != nil {
		return fmt.Errorf("discard job %d: %w", a.Job, err)
	}
	return nil
}

// interruptCancelled ends the actions of this process that run although their
// executions are canceling or over: River's word of it may have been lost.
func (p *reaper) interruptCancelled(ctx context.Context) error {
	ids := p.locks.ids()
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	rows, err := p.pool.Query(ctx, `SELECT id FROM `+p.store.Table()+` WHERE id = ANY ($1) AND status::text = ANY ($2::text[])`,
		ids, append(terminal(), wire.StatusCanceling))
	if err != nil {
		return fmt.Errorf("read the executions of this process: %w", err)
	}
	over, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("read the executions of this process: %w", err)
	}
	for _, id := range over {
		p.locks.interrupt(id, errInterrupted)
	}
	return nil
}

// terminal lists the statuses that an execution does not leave.
func terminal() []wire.Status {
	return slices.DeleteFunc(wire.Statuses(), func(s wire.Status) bool { return !s.Terminal() })
}
