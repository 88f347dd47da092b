package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"attune/wire"
)

// writeTimeout bounds one write of an execution's status.
const writeTimeout = 10 * time.Second

// How long the end of an execution is tried to be written: between two attempts, and
// after the runner was stopped.
const (
	firstRetry    = 50 * time.Millisecond
	longestRetry  = 2 * time.Second
	giveUpTimeout = time.Second
)

// busyDelay is how long a job waits whose execution is locked by somebody else.
const busyDelay = time.Second

// errStopped is why an action ends that outlives the DrainTimeout.
var errStopped = errors.New("the runner was stopped")

// jobArgs is the job of an execution. All else is in the execution's row.
type jobArgs struct {
	ExecutionID int64 `json:"execution_id"`
}

// Kind names the jobs of this package in River's table.
func (jobArgs) Kind() string { return "attune.execution" }

// worker takes one execution through its life.
type worker struct {
	river.WorkerDefaults[jobArgs]
	runner *Runner
}

// Timeout is none: the actions bound themselves.
func (*worker) Timeout(*river.Job[jobArgs]) time.Duration { return -1 }

// NextRetry is soon: only what failed before its action was started is tried again.
func (*worker) NextRetry(job *river.Job[jobArgs]) time.Time {
	return time.Now().Add(time.Duration(min(job.Attempt, 30)) * time.Second)
}

// Work runs the execution of a job. An error means that nothing was started and that
// it may be tried again, or that the end could not be written, in which case the next
// attempt finds it running and abandons it.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	r, id := w.runner, job.Args.ExecutionID
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	ok, err := r.locks.take(ctx, id, interrupt)
	if err != nil {
		return fmt.Errorf("lock execution %d: %w", id, err)
	}
	if !ok {
		return river.JobSnooze(busyDelay)
	}
	defer r.locks.release(ctx, id)

	x, started, err := r.start(ctx, id)
	if err != nil {
		return err
	}
	if !started {
		return r.leftover(ctx, x)
	}
	to, result := r.act(ctx, x)
	return r.finish(ctx, id, to, result)
}

// start takes an execution to running, each step for everybody to see, and reports
// whether it was this call that did.
func (r *Runner) start(ctx context.Context, id int64) (x wire.Execution, started bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	from := []wire.Status{wire.StatusRequested}
	for _, to := range []wire.Status{wire.StatusScheduling, wire.StatusScheduled, wire.StatusRunning} {
		x, started, err = r.cfg.Store.Transition(ctx, r.cfg.Pool, id, from, to, nil)
		if err != nil {
			if e, ok := errors.AsType[*wire.Error](err); ok && e.Code == wire.CodeNotFound {
				return x, false, river.JobCancel(err) // the row was deleted
			}
			return x, false, err
		}
		from = append(from, to) // an attempt before this one may have come so far
	}
	return x, started, nil
}

// leftover deals with an execution that this job must not start. Nobody works on it,
// for its lock is ours.
func (r *Runner) leftover(ctx context.Context, x wire.Execution) error {
	if x.Status.Terminal() {
		return nil
	}
	return r.finish(ctx, x.ID, wire.StatusAbandoned, failure(errors.New("its process ended before it did")))
}

// act runs the action and says how the execution ends.
func (r *Runner) act(ctx context.Context, x wire.Execution) (wire.Status, json.RawMessage) {
	run, err := r.actions.prepare(x.ActionRef, x.Parameters)
	if err != nil {
		return wire.StatusFailed, failure(err)
	}
	result, err := r.guard(ctx, x, run)
	switch {
	case err == nil:
		return wire.StatusCompleted, result
	case errors.Is(err, errTimeout):
		return wire.StatusTimeout, failure(err)
	case ctx.Err() == nil:
		return wire.StatusFailed, failure(err)
	case errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely), errors.Is(context.Cause(ctx), errInterrupted):
		return wire.StatusCancelled, nil
	}
	return wire.StatusAbandoned, failure(errStopped)
}

// guard runs an action; a panic is its error.
func (r *Runner) guard(ctx context.Context, x wire.Execution, run runFunc) (result json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Logger.ErrorContext(ctx, "action panicked", slog.Int64("execution", x.ID),
				slog.String("action", x.ActionRef), slog.String("stack", string(debug.Stack())))
			err = errors.New("internal error")
		}
	}()
	return run(ctx)
}

// finish takes an execution to its end: from running to the given one, from canceling
// to cancelled, from a terminal one nowhere. It tries until it has been done, since
// the action cannot be run again.
func (r *Runner) finish(ctx context.Context, id int64, to wire.Status, result json.RawMessage) error {
	giveUp := r.giveUp
	var last <-chan time.Time
	for wait := firstRetry; ; wait = min(2*wait, longestRetry) {
		err := r.end(ctx, id, to, result)
		if err == nil {
			return nil
		}
		if e, ok := errors.AsType[*wire.Error](err); ok {
			if e.Code != wire.CodeInvalidParameter {
				return err // the row was deleted
			}
			to, result = wire.StatusFailed, failure(errors.New("PostgreSQL cannot store the result as jsonb"))
		}
		r.cfg.Logger.WarnContext(ctx, "the end of an execution could not be written", slog.Int64("execution", id),
			slog.Any("err", err), slog.Duration("retry_in", wait))
		select {
		case <-time.After(wait):
		case <-giveUp:
			giveUp, last = nil, time.After(giveUpTimeout)
		case <-last:
			return err
		}
	}
}

// end writes the end of an execution.
func (r *Runner) end(ctx context.Context, id int64, to wire.Status, result json.RawMessage) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	x, done, err := r.cfg.Store.Transition(ctx, r.cfg.Pool, id, []wire.Status{wire.StatusRunning}, to, result)
	if err != nil || done || x.Status.Terminal() {
		return err
	}
	_, _, err = r.cfg.Store.Transition(ctx, r.cfg.Pool, id, []wire.Status{wire.StatusCanceling}, wire.StatusCancelled, nil)
	return err
}

// failure is the result of an execution that did not complete.
func failure(err error) json.RawMessage {
	message := err.Error()
	if e, ok := errors.AsType[*wire.Error](err); ok {
		message = e.Message
	}
	return mustJSON(map[string]any{"error": message})
}
