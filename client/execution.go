package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"attune/wire"
)

// Started is an execution that was asked for. Cursor is a position before it was
// written: whoever follows from there misses nothing of it.
type Started struct {
	wire.Execution
	Cursor string
}

// Execute asks for an execution.
func (c *Client) Execute(ctx context.Context, req wire.ExecutionRequest) (Started, error) {
	var s Started
	cursor, err := c.do(ctx, call{
		method: http.MethodPost, path: "/executions", body: req, want: http.StatusCreated,
	}, &s.Execution)
	if err != nil {
		return Started{}, err
	}
	s.Cursor = cursor
	return s, nil
}

// Execution reads one execution.
func (c *Client) Execution(ctx context.Context, id int64) (wire.Execution, error) {
	var e wire.Execution
	_, err := c.do(ctx, call{method: http.MethodGet, path: executionPath(id), want: http.StatusOK}, &e)
	return e, err
}

// List reads a page of executions. A zero Limit leaves its length to the server.
func (c *Client) List(ctx context.Context, q wire.ExecutionQuery) (wire.ExecutionList, error) {
	query := make(url.Values)
	if q.Status != "" {
		query.Set("status", string(q.Status))
	}
	if q.ActionRef != "" {
		query.Set("action_ref", q.ActionRef)
	}
	if q.Parent != nil {
		query.Set("parent", strconv.FormatInt(*q.Parent, 10))
	}
	if q.Limit != 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Before != nil {
		query.Set("before", strconv.FormatInt(*q.Before, 10))
	}
	var list wire.ExecutionList
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/executions", query: query, want: http.StatusOK}, &list)
	return list, err
}

// Cancel asks for an execution to be cancelled and returns it as it stands then.
func (c *Client) Cancel(ctx context.Context, id int64) (wire.Execution, error) {
	var e wire.Execution
	_, err := c.do(ctx, call{method: http.MethodPost, path: executionPath(id) + "/cancel", want: http.StatusAccepted}, &e)
	return e, err
}

func executionPath(id int64) string { return "/executions/" + strconv.FormatInt(id, 10) }

// ErrStillRunning ends a wait whose time is over: the last look found the execution
// going on.
var ErrStillRunning = errors.New("the execution is still going on")

// Wait waits until the execution is terminal and returns it. A change in any gap of
// subscribing, reading and waiting is seen, and nothing that a server or a network can
// do delays the outcome by more than the time between two looks (see await).
//
// When the time is over it looks once more and returns the execution with
// ErrStillRunning, or the error of that look. What the server refuses for good ends
// the wait at once (see Permanent); when ctx is done, its cause is returned with the
// execution as it was last seen, its zero value if it never was.
func (c *Client) Wait(ctx context.Context, id int64, opts WaitOptions) (wire.Execution, error) {
	e, err := await(ctx, c, subject[wire.Execution]{
		filter: wire.EntityFilter("execution", wire.IntID(id).String()).String(),
		read: func(ctx context.Context) (sight[wire.Execution], error) {
			e, err := c.Execution(ctx, id)
			if err != nil {
				return sight[wire.Execution]{}, err
			}
			return sight[wire.Execution]{
				value: e, over: e.Status.Terminal(), facts: statusFacts(e.Status), event: Read{Status: e.Status},
			}, nil
		},
		hear:  hearExecution,
		unmet: ErrStillRunning,
	}, opts)
	if err != nil {
		return e, fmt.Errorf("wait for execution %d: %w", id, err)
	}
	return e, nil
}

// hearExecution takes a notification of an execution. It is not the execution, whose
// result it lacks.
func hearExecution(n wire.Notification) (sight[wire.Execution], verdict) {
	var row struct {
		Status wire.Status `json:"status"`
	}
	if err := json.Unmarshal(n.Payload, &row); err != nil || row.Status == "" {
		return sight[wire.Execution]{}, unclear
	}
	heard := sight[wire.Execution]{
		facts: statusFacts(row.Status),
		event: Notified{NotificationType: n.NotificationType, Status: row.Status},
	}
	if row.Status.Terminal() {
		return heard, ended
	}
	return heard, goesOn
}

// statusFacts is what a status says; one status has several spellings.
func statusFacts(s wire.Status) facts { return facts{"status": string(s.Canonical())} }
