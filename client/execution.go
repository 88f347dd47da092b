package client

import (
	"context"
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
