package runner

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bounds of one exchange on the lock connection, and of its end.
const (
	lockTimeout  = 5 * time.Second
	closeTimeout = 500 * time.Millisecond
)

// locks holds one session-level advisory lock for each execution that this process
// works on, all on one connection: PostgreSQL frees them when the process dies, and
// that is how others know.
//
// A connection that was lost is made anew and the locks are taken again, well before
// anybody has looked twice.
type locks struct {
	config *pgx.ConnConfig
	name   string
	beat   time.Duration // how often the connection is tried
	logger *slog.Logger

	mu   sync.Mutex
	conn *pgx.Conn // nil while there is none
	held map[int64]context.CancelCauseFunc
}

func newLocks(config *pgx.ConnConfig, name string, reapInterval time.Duration, logger *slog.Logger) *locks {
	return &locks{
		config: config,
		name:   name,
		beat:   max(reapInterval/4, time.Millisecond),
		logger: logger,
		held:   make(map[int64]context.CancelCauseFunc),
	}
}

// run tries the connection on every beat until ctx is done, then closes it.
func (l *locks) run(ctx context.Context) {
	ticker := time.NewTicker(l.beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.drop(ctx)
			return
		case <-ticker.C:
		}
		if err := l.check(ctx); err != nil {
			l.logger.WarnContext(ctx, "lock connection lost", slog.Any("err", err), slog.Duration("retry_in", l.beat))
		}
	}
}

func (l *locks) check(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil && len(l.held) == 0 {
		return nil
	}
	ctx, cancel := exchange(ctx)
	defer cancel()
	err := l.connect(ctx)
	if err == nil {
		_, err = l.conn.Exec(ctx, `SELECT 1`)
	}
	if err != nil {
		l.drop(ctx)
	}
	return err
}

// take takes the lock of an execution; false means that somebody else has it.
// interrupt is kept for interruptible until the lock is released.
func (l *locks) take(ctx context.Context, id int64, interrupt context.CancelCauseFunc) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := exchange(ctx)
	defer cancel()
	if err := l.connect(ctx); err != nil {
		l.drop(ctx)
		return false, err
	}
	ok, err := l.try(ctx, id)
	if err != nil {
		l.drop(ctx)
		return false, err
	}
	if ok {
		l.held[id] = interrupt
	}
	return ok, nil
}

// release gives a lock up. Where that fails the connection goes, and the lock with it.
func (l *locks) release(ctx context.Context, id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
	if l.conn == nil {
		return
	}
	ctx, cancel := exchange(ctx)
	defer cancel()
	if _, err := l.conn.Exec(ctx, `SELECT pg_advisory_unlock(hashtextextended($1, $2))`, l.name, id); err != nil {
		l.drop(ctx)
	}
}

// ids lists the executions that this process works on.
func (l *locks) ids() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]int64, 0, len(l.held))
	for id := range l.held {
		ids = append(ids, id)
	}
	return ids
}

// interrupt ends an action of this process, if it runs still.
func (l *locks) interrupt(id int64, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel := l.held[id]; cancel != nil {
		cancel(cause)
	}
}

// connect makes the connection if there is none and takes the locks again. One that
// somebody else holds meanwhile is his: a reaper that gives the execution up.
func (l *locks) connect(ctx context.Context) error {
	if l.conn != nil && !l.conn.IsClosed() {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, l.config.Copy())
	if err != nil {
		return err
	}
	l.conn = conn
	// A machine that vanishes must not hold its locks for the two hours that TCP waits
	// by default.
	_, err = conn.Exec(ctx, `SET application_name = 'attune runner'; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3`)
	for id := range l.held {
		if err != nil {
			return err
		}
		_, err = l.try(ctx, id)
	}
	return err
}

func (l *locks) try(ctx context.Context, id int64) (ok bool, err error) {
	err = l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, $2))`, l.name, id).Scan(&ok)
	return ok, err
}

// drop closes the connection.
func (l *locks) drop(ctx context.Context) {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	// It is closed whatever the error says.
	_ = l.conn.Close(ctx)
	l.conn = nil
}

// exchange returns the context of one exchange: cancelling one action must not end
// the connection that keeps the locks of all.
func exchange(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
}
