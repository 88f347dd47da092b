package http_test

import (
	"context"
	"fmt"
	"sync"

	"attune/wire"
)

// executions are executions in memory, for a bubble, which a database would keep from
// letting time pass. They count how often they are read.
type executions struct {
	mu    sync.Mutex
	rows  map[int64]wire.Execution
	reads int
}

// put writes an execution, and nobody is told.
func (e *executions) put(id int64, status wire.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rows == nil {
		e.rows = make(map[int64]wire.Execution)
	}
	e.rows[id] = wire.Execution{ID: id, ActionRef: "core.echo", Status: status}
}

// count returns the reads since it was called before.
func (e *executions) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.reads
	e.reads = 0
	return n
}

// Get implements attunehttp.Executions.
func (e *executions) Get(_ context.Context, id int64) (wire.Execution, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	x, ok := e.rows[id]
	if !ok {
		return x, &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("there is no execution %d", id)}
	}
	return x, nil
}

// GetMany implements attunehttp.Executions.
func (e *executions) GetMany(_ context.Context, ids []int64) ([]wire.Execution, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	var found []wire.Execution
	for _, id := range ids {
		if x, ok := e.rows[id]; ok {
			found = append(found, x)
		}
	}
	return found, nil
}

// List implements attunehttp.Executions.
func (e *executions) List(context.Context, wire.ExecutionQuery) (wire.ExecutionList, error) {
	return wire.ExecutionList{}, nil
}

// held are actions of which each call waits for let.
type held struct {
	called, let chan struct{}
}

// Create implements attunehttp.Actions.
func (a held) Create(_ context.Context, req wire.ExecutionRequest) (wire.Execution, error) {
	a.called <- struct{}{}
	<-a.let
	return wire.Execution{ID: 1, ActionRef: req.ActionRef, Status: wire.StatusRequested}, nil
}

// Cancel implements attunehttp.Actions.
func (a held) Cancel(_ context.Context, id int64) (wire.Execution, error) {
	a.called <- struct{}{}
	<-a.let
	return wire.Execution{ID: id, Status: wire.StatusCanceling}, nil
}
