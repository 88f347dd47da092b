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

// ListOptions narrows a list of executions; the zero value asks for the newest.
type ListOptions struct {
	Status    wire.Status
	ActionRef string
	Parent    int64 // of child executions
	Limit     int   // at most so many; 0 leaves it to the server
	Before    int64 // only ids below
}

// List reads a page of executions, newest first.
func (c *Client) List(ctx context.Context, opts ListOptions) (wire.ExecutionList, error) {
	query := make(url.Values)
	set := func(name, value string, zero string) {
		if value != zero {
			query.Set(name, value)
		}
	}
	set("status", string(opts.Status), "")
	set("action_ref", opts.ActionRef, "")
	set("parent", strconv.FormatInt(opts.Parent, 10), "0")
	set("limit", strconv.Itoa(opts.Limit), "0")
	set("before", strconv.FormatInt(opts.Before, 10), "0")
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
