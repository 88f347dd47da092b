// Package runner runs actions. An execution is a row that everybody sees, and beside
// it a job in River's queue, so that several processes share the work and what was
// only queued outlives them.
//
// It promises: an execution and its job are created in one transaction, or neither
// is. An action is started at most once, whatever breaks. Every execution ends in
// exactly one terminal status, also when its process dies: whoever runs it holds an
// advisory lock, and where the lock is free while the work goes on according to the
// queue, the execution ends as abandoned. Executions without a job of ours, a
// platform's, are never touched.
//
// The pool must lead straight to PostgreSQL: session locks do not work through a
// transaction pooler. The Runner listens to nothing by itself: see Channels.
package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"attune/wire"
)

// schema is where River's tables are; a platform's schema is never written to.
const schema = "attune_live"

// River hears of a new job by NOTIFY. It holds back a second announcement, and a
// second fetch, for a cooldown each; the poll finds what fell between.
const (
	notifyCooldown = time.Millisecond
	fetchCooldown  = 5 * time.Millisecond
	fetchPoll      = 250 * time.Millisecond
)

// Defaults of Config.
const (
	defaultWorkers      = 64
	defaultDrainTimeout = 5 * time.Second
	defaultReapInterval = 4 * time.Second
)

// hardStop bounds what comes after the drain: telling that the rest is abandoned.
const hardStop = 1500 * time.Millisecond

// errNoJob says that an execution is not one of ours.
var errNoJob = errors.New("the execution has no job")

// Querier is what reads one row: a pool or a transaction.
type Querier = interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Store keeps the executions. Its errors may be *wire.Error.
type Store interface {
	// Table names the table, qualified and quoted.
	Table() string
	// Get reads an execution; CodeNotFound if there is none.
	Get(ctx context.Context, id int64) (wire.Execution, error)
	// Create inserts an execution as requested; CodeInvalidParameter when the
	// parameters cannot be stored.
	Create(ctx context.Context, tx pgx.Tx, req wire.ExecutionRequest) (wire.Execution, error)
	// Transition takes an execution to another status if it is in one of from, and
	// returns it as it is afterwards; CodeInvalidParameter when the result cannot be
	// stored.
	Transition(ctx context.Context, db Querier, id int64, from []wire.Status, to wire.Status, result json.RawMessage) (_ wire.Execution, done bool, _ error)
}

// Config is what a Runner needs. Pool, Store and Logger must be given, the others
// have defaults.
type Config struct {
	Pool   *pgxpool.Pool
	Store  Store
	Logger *slog.Logger
	// Workers bounds how many actions run at once in this process; 64.
	Workers int
	// DrainTimeout is how long running actions may go on when the runner is stopped;
	// 5 s. What runs still is cancelled then, and ends as abandoned.
	DrainTimeout time.Duration
	// ReapInterval is how often the runner looks for executions whose process died;
	// 4 s. One that is found dead twice in a row ends as abandoned.
	ReapInterval time.Duration
}

// Runner creates, runs and cancels executions. Its methods may be called from
// several goroutines; Create and Cancel need no Run in the same process.
type Runner struct {
	cfg     Config
	queue   string
	actions *actions
	client  *river.Client[pgx.Tx]
	locks   *locks
	reaper  *reaper
	// listener is where the queue hears of its notifications.
	listener *queueListener
	// giveUp is closed when the runner ends whatever happens.
	giveUp chan struct{}
}

// New makes a Runner; nothing runs before Run. Migrate must have prepared the
// database.
func New(cfg Config) (*Runner, error) {
	if cfg.Pool == nil || cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("runner: Pool, Store and Logger must be given")
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = defaultDrainTimeout
	}
	if cfg.ReapInterval == 0 {
		cfg.ReapInterval = defaultReapInterval
	}
	if cfg.Workers < 1 || cfg.Workers > river.QueueNumWorkersMax || cfg.DrainTimeout < 0 || cfg.ReapInterval < 0 {
		return nil, fmt.Errorf("runner: want 1 to %d workers and no negative durations", river.QueueNumWorkersMax)
	}
	r := &Runner{
		cfg:      cfg,
		queue:    queueName(cfg.Store.Table()),
		actions:  newActions(),
		giveUp:   make(chan struct{}),
		listener: &queueListener{heard: make(chan *riverdriver.Notification, heardSize), logger: cfg.Logger},
	}
	r.locks = newLocks(cfg.Pool.Config().ConnConfig, lockName(cfg.Store.Table()), cfg.ReapInterval, cfg.Logger)
	r.reaper = &reaper{
		pool: cfg.Pool, store: cfg.Store, queue: r.queue, locks: r.locks, interval: cfg.ReapInterval, logger: cfg.Logger,
	}

	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{runner: r}); err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	var err error
	r.client, err = river.NewClient(driver{riverpgxv5.New(cfg.Pool), r.listener}, &river.Config{
		FetchCooldown:     notifyCooldown,
		FetchPollInterval: fetchPoll,
		JobTimeout:        -1, // the actions bound themselves
		Logger:            cfg.Logger.With(slog.String("component", "river")),
		Queues: map[string]river.QueueConfig{
			r.queue: {MaxWorkers: cfg.Workers, FetchCooldown: fetchCooldown},
		},
		Schema:  schema,
		Workers: workers,
	})
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	return r, nil
}

// Run works until ctx is done. Then it takes no more work, gives what runs the
// DrainTimeout, cancels what runs still, and returns when all of it has ended, or with
// an error where that takes too long because the database is away. It may be called
// once.
func (r *Runner) Run(ctx context.Context) error {
	// What goes on after ctx is done, until the last action has ended.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if err := r.client.Start(background); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	var group errgroup.Group
	group.Go(func() error { r.locks.run(background); return nil })
	group.Go(func() error { r.reaper.run(background); return nil })

	<-ctx.Done()
	err := r.stop(background)
	stop()
	return errors.Join(err, group.Wait())
}

// stop ends the client, softly first.
func (r *Runner) stop(ctx context.Context) error {
	soft, cancel := context.WithTimeout(ctx, r.cfg.DrainTimeout)
	defer cancel()
	err := r.client.Stop(soft)
	close(r.giveUp)
	if errors.Is(err, context.DeadlineExceeded) {
		hard, cancel := context.WithTimeout(ctx, hardStop)
		defer cancel()
		err = r.client.StopAndCancel(hard)
	}
	if err != nil {
		return fmt.Errorf("stop the job queue: %w", err)
	}
	return nil
}

// Actions lists the actions that can be run, sorted.
func (r *Runner) Actions() []string { return r.actions.names() }

// Create creates an execution and queues it, in one transaction. The error is a
// *wire.Error with CodeUnknownAction, whose message lists the known ones, or with
// CodeInvalidParameter, whose message names the parameter and what is accepted.
func (r *Runner) Create(ctx context.Context, req wire.ExecutionRequest) (wire.Execution, error) {
	if _, err := r.actions.prepare(req.ActionRef, req.Parameters); err != nil {
		return wire.Execution{}, err
	}
	var x wire.Execution
	err := pgx.BeginFunc(ctx, r.cfg.Pool, func(tx pgx.Tx) error {
		var err error
		if x, err = r.cfg.Store.Create(ctx, tx, req); err != nil {
			return err
		}
		_, err = r.client.InsertTx(ctx, tx, jobArgs{ExecutionID: x.ID}, &river.InsertOpts{Queue: r.queue})
		return err
	})
	if err != nil {
		return wire.Execution{}, fmt.Errorf("create an execution: %w", err)
	}
	return x, nil
}

// Cancel cancels an execution: at once while it waits, otherwise it becomes canceling
// and its action is told, in whatever process it runs. One that is canceling already
// is returned as it is.
//
// The error is a *wire.Error with CodeNotFound, CodeAlreadyTerminal, or CodeReadOnly
// when the execution is not one of ours.
func (r *Runner) Cancel(ctx context.Context, id int64) (wire.Execution, error) {
	var x wire.Execution
	err := pgx.BeginFunc(ctx, r.cfg.Pool, func(tx pgx.Tx) error {
		job, err := r.findJob(ctx, tx, id)
		if err != nil {
			return err
		}
		if job == nil {
			return errNoJob
		}
		var done bool
		for _, step := range []struct {
			from []wire.Status
			to   wire.Status
		}{
			{waiting(), wire.StatusCancelled},
			{[]wire.Status{wire.StatusRunning}, wire.StatusCanceling},
		} {
			if x, done, err = r.cfg.Store.Transition(ctx, tx, id, step.from, step.to, nil); err != nil || done {
				break
			}
		}
		switch {
		case err != nil:
			return err
		case done:
		case x.Status == wire.StatusCanceling:
			return nil
		default:
			return notCancellable(x)
		}
		_, err = r.client.JobCancelTx(ctx, tx, *job)
		return err
	})
	if errors.Is(err, errNoJob) { // read outside of the transaction: its connection may be the pool's last
		if x, err = r.cfg.Store.Get(ctx, id); err == nil {
			err = notCancellable(x)
		}
	}
	if err != nil {
		return wire.Execution{}, fmt.Errorf("cancel execution %d: %w", id, err)
	}
	return x, nil
}

// findJob returns the id of an execution's job, nil if it has none.
func (r *Runner) findJob(ctx context.Context, tx pgx.Tx, id int64) (*int64, error) {
	args, err := json.Marshal(jobArgs{ExecutionID: id})
	if err != nil {
		return nil, err
	}
	var job int64
	err = tx.QueryRow(ctx, `
		SELECT id FROM `+schema+`.river_job WHERE args @> $1::jsonb AND kind = $2 AND queue = $3
		ORDER BY id DESC LIMIT 1`, string(args), jobArgs{}.Kind(), r.queue).Scan(&job)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for its job: %w", err)
	}
	return &job, nil
}

// notCancellable says why an execution cannot be cancelled.
func notCancellable(x wire.Execution) error {
	if x.Status.Terminal() {
		return &wire.Error{Code: wire.CodeAlreadyTerminal, Message: fmt.Sprintf("execution %d is %s already", x.ID, x.Status)}
	}
	return &wire.Error{Code: wire.CodeReadOnly, Message: fmt.Sprintf("execution %d is not run by this server", x.ID)}
}

// waiting lists the statuses of an execution whose action has not been started.
func waiting() []wire.Status {
	return []wire.Status{wire.StatusRequested, wire.StatusScheduling, wire.StatusScheduled}
}

// queueName names the queue of one table's executions: two servers may share a
// database, each with a table of its own.
func queueName(table string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(table))
	return fmt.Sprintf("execution-%x", h.Sum64())
}

// lockName is what the executions of a table are locked under.
func lockName(table string) string { return "attune.execution." + table }
