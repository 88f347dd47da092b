package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"attune/wire"
)

// maxProblem bounds what is read of an answer that refuses.
const maxProblem = 64 << 10

// StatusError is an answer other than the one asked for. Where the server said why,
// it wraps the *wire.Error.
type StatusError struct {
	// Status is the HTTP status.
	Status int
	// Problem is what the server said; nil when the answer came from something that
	// speaks no problem+json, such as a proxy.
	Problem *wire.Error
	// Cursor is the position that the answer holds for; "" where the server did not
	// look at a row to give it.
	Cursor string
}

// Error returns the status and the server's words.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	if e.Problem != nil {
		s += ": " + e.Problem.Error()
	}
	return s
}

// Unwrap returns what the server said.
func (e *StatusError) Unwrap() error {
	if e.Problem == nil {
		return nil
	}
	return e.Problem
}

// statusError reads the answer that refuses.
func statusError(resp *http.Response) *StatusError {
	e := &StatusError{Status: resp.StatusCode, Cursor: resp.Header.Get("Attune-Cursor")}
	var problem struct {
		Code   wire.Code `json:"code"`
		Title  string    `json:"title"`
		Detail string    `json:"detail"`
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err == nil && json.Unmarshal(text, &problem) == nil && problem.Code != "" {
		if problem.Detail == "" {
			problem.Detail = problem.Title
		}
		e.Problem = &wire.Error{Code: problem.Code, Message: problem.Detail}
	}
	return e
}

// Permanent reports whether asking again would be answered the same: a request that
// the server refuses, as against one that it could not take now.
func Permanent(err error) bool {
	if e, ok := errors.AsType[*StatusError](err); ok {
		switch e.Status {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return false
		case http.StatusNotImplemented:
			return true
		}
		return e.Status < http.StatusInternalServerError
	}
	_, refused := errors.AsType[*wire.Error](err)
	return refused
}
