package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"attune/client"
	"attune/wire"
)

const defaultTimeout = timeoutFlag(300 * time.Second)

// waiting is one wait for one execution.
type waiting struct {
	id      int64
	cursor  string
	timeout time.Duration
}

// waitFor waits for an execution and tells how it goes on p.
func (a *app) waitFor(ctx context.Context, c *client.Client, p *printer, w waiting) (wire.Execution, error) {
	p.line("Waiting for execution %d to complete...", w.id)
	progress := progress{p: p, what: fmt.Sprintf("execution %d", w.id), until: "it is over", state: executionState}
	e, err := c.Wait(ctx, w.id, client.WaitOptions{Timeout: w.timeout, Cursor: w.cursor, Progress: progress.tell})
	switch {
	case err == nil:
		tellOutcome(p, e)
	case ctx.Err() != nil:
		p.always("Detached from execution %d, which was not cancelled.", w.id)
		p.always("To go on waiting: attune execution wait %d%s", w.id, a.again())
	case errors.Is(err, client.ErrStillRunning):
		p.always("Execution %d is not over after %s: status=%s", w.id, w.timeout, e.Status)
		p.always("To go on waiting: attune execution wait %d%s", w.id, a.again())
	}
	return e, err
}

// conclude prints on stdout what a wait came to, and returns the command's error.
func (a *app) conclude(ctx context.Context, e wire.Execution, err error) error {
	if err == nil {
		if err := a.printResult(e); err != nil {
			return err
		}
		if code := outcomeCode(e.Status); code != ExitCompleted {
			return &SaidError{code}
		}
		return nil
	}
	// The execution is the answer where there is one; the user has been told the rest.
	if detached := ctx.Err() != nil; detached || errors.Is(err, client.ErrStillRunning) {
		if a.json && e.ID == 0 {
			return err
		}
		if a.json {
			if err := a.printJSON(e); err != nil {
				return err
			}
		}
		return &SaidError{errorCode(ctx, err)}
	}
	return err
}

// again returns the flags that every command has, as the user gave them, for a command
// that goes on.
func (a *app) again() string {
	s := ""
	if a.profile != "" {
		s += " --profile " + a.profile
	}
	if a.url != "" {
		s += " --url " + a.url
	}
	if a.json {
		s += " --json"
	}
	return s
}

// tellOutcome prints how an execution ended.
func tellOutcome(p *printer, e wire.Execution) {
	switch e.Status.Canonical() {
	case wire.StatusCompleted:
		p.coloured(green, "✓ Execution %d completed", e.ID)
	case wire.StatusTimeout:
		p.coloured(red, "✗ Execution %d timed out", e.ID)
	case wire.StatusFailed, wire.StatusCancelled, wire.StatusAbandoned,
		wire.StatusRequested, wire.StatusScheduling, wire.StatusScheduled, wire.StatusRunning, wire.StatusCanceling:
		p.coloured(red, "✗ Execution %d %s", e.ID, e.Status.Canonical())
	}
}

// progress prints the steps of one wait.
type progress struct {
	p     *printer
	what  string // such as "execution 51"
	until string // with what the wait ends
	// state is what a notification or a row says of how things stand, to be put behind
	// a line; false when it is not worth one.
	state  func(client.Event) (string, bool)
	last   string // the state that was told last
	failed string // the last failure to read that was told
}

// tell prints a step.
func (g *progress) tell(e client.Event) {
	switch e := e.(type) {
	case client.Connected:
		g.p.line("[notifier] connected to %s", e.URL)
	case client.Session:
		g.p.line("[notifier] session id %s", e.ID)
	case client.Subscribed:
		g.p.line("[notifier] subscribed to %s", e.Filter)
	case client.Notified:
		if state, tell := g.state(e); tell {
			g.p.line("[notifier] %s for %s%s", e.NotificationType, g.what, state)
			g.last = state
		}
	case client.Missed:
		g.p.line("[notifier] notifications may be missing (%s): reading %s", e.Reason, g.what)
	case client.ModeChanged:
		if e.Mode == wire.ModeDegraded {
			g.p.line("[notifier] the server receives no notifications now: reading %s meanwhile", g.what)
		} else {
			g.p.line("[notifier] the server receives notifications again")
		}
	case client.Lost:
		g.p.line("[notifier] %s; retrying in %s, reading %s meanwhile", e.Err, e.Retry.Round(time.Millisecond), g.what)
	case client.Polling:
		if e.Err != nil {
			g.p.line("[notifier] no notifications: %s", e.Err)
		}
		g.p.line("[poll] reading %s until %s", g.what, g.until)
	case client.Read:
		g.failed = ""
		if state, tell := g.state(e); tell && state != g.last {
			g.p.line("[poll] %s%s", g.what, state)
			g.last = state
		}
	case client.ReadFailed:
		if text := e.Err.Error(); text != g.failed {
			g.failed = text
			g.p.line("[poll] %s; trying again", text)
		}
	}
}

// executionState tells an execution's status, but not one that is only a moment's
// state of the scheduler: no change that anybody waits for.
func executionState(e client.Event) (string, bool) {
	var status wire.Status
	switch e := e.(type) { //nolint:gochecksumtype // the others tell no state
	case client.Notified:
		status = e.Status
	case client.Read:
		status = e.Status
	}
	return " — status=" + string(status), status != wire.StatusRequested && status != wire.StatusScheduling
}
