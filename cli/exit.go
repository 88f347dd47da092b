package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"attune/client"
	"attune/wire"
)

// The exit codes.
const (
	ExitCompleted = 0   // done; the execution completed
	ExitError     = 1   // could not be started or observed
	ExitUsage     = 2   // usage, unknown action, bad parameter
	ExitTimeout   = 3   // the wait timed out, the execution goes on
	ExitDenied    = 4   // not authenticated or not allowed
	ExitFailed    = 5   // the execution failed
	ExitCancelled = 6   // the execution was cancelled
	ExitServer    = 7   // the execution timed out on the server or was abandoned
	ExitDetached  = 130 // Ctrl-C
)

const exitHelp = `Exit codes:
    0  completed
    1  could not be started or observed: no connection, server error, no such execution
    2  usage, unknown action, bad parameter
    3  the wait timed out, the execution goes on
    4  not authenticated or not allowed
    5  failed
    6  cancelled
    7  timed out on the server, or abandoned
  130  detached by Ctrl-C`

// usageError is a mistake in how the command was called.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef returns a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// SaidError is an exit code whose reason the user has been told.
type SaidError struct{ Code int }

// Error returns the code.
func (e *SaidError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// outcomeCode returns the exit code of an execution that has ended.
func outcomeCode(s wire.Status) int {
	switch s.Canonical() {
	case wire.StatusCompleted:
		return ExitCompleted
	case wire.StatusFailed:
		return ExitFailed
	case wire.StatusCancelled:
		return ExitCancelled
	case wire.StatusTimeout, wire.StatusAbandoned:
		return ExitServer
	case wire.StatusRequested, wire.StatusScheduling, wire.StatusScheduled, wire.StatusRunning, wire.StatusCanceling:
	}
	return ExitTimeout
}

// errorCode returns the exit code of what kept a command from its work.
func errorCode(ctx context.Context, err error) int {
	if said, ok := errors.AsType[*SaidError](err); ok {
		return said.Code
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if ctx.Err() != nil {
		return ExitDetached
	}
	if errors.Is(err, client.ErrStillRunning) || errors.Is(err, client.ErrNotReached) {
		return ExitTimeout
	}
	if refused, ok := errors.AsType[*client.StatusError](err); ok {
		switch refused.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return ExitDenied
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			return ExitUsage
		}
		return ExitError
	}
	if refused, ok := errors.AsType[*wire.Error](err); ok { // a frame, which has no status
		switch refused.Code { //nolint:exhaustive // any other is an error like any other
		case wire.CodeUnauthenticated, wire.CodeForbidden:
			return ExitDenied
		case wire.CodeInvalidFilter, wire.CodeTooManyFilters:
			return ExitUsage
		}
	}
	return ExitError
}

// Codes of errors that no server sent, beside those of the wire.
const (
	codeUsage       wire.Code = "usage"
	codeUnreachable wire.Code = "unreachable"
	codeDetached    wire.Code = "detached"
)

// report tells the user of err, unless it was told, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return ExitCompleted
	}
	code := errorCode(ctx, err)
	if _, said := errors.AsType[*SaidError](err); said {
		return code
	}
	if a.wantsJSON() {
		problem := wire.Error{Code: wireCode(err, code), Message: err.Error()}
		if e, ok := errors.AsType[*wire.Error](err); ok {
			problem.Message = e.Message
		}
		text, _ := json.Marshal(map[string]wire.Error{"error": problem}) // two strings always encode
		fmt.Fprintf(a.Stdout, "%s\n", text)
	}
	p := a.printer()
	p.error(err)
	if code == ExitUsage && !a.running {
		p.always("Try --help.")
	}
	return code
}

// wireCode returns the stable name of what went wrong.
func wireCode(err error, exit int) wire.Code {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*client.StatusError](err); ok {
		switch e.Status {
		case http.StatusUnauthorized:
			return wire.CodeUnauthenticated
		case http.StatusForbidden:
			return wire.CodeForbidden
		case http.StatusNotFound:
			return wire.CodeNotFound
		}
		return wire.Code(fmt.Sprintf("http_%d", e.Status))
	}
	switch exit {
	case ExitUsage:
		return codeUsage
	case ExitDetached:
		return codeDetached
	}
	return codeUnreachable
}

// printable replaces control characters, which could command the terminal, except
// those of keep.
func printable(s, keep string) string {
	return strings.Map(func(r rune) rune {
		if (r < ' ' || r >= 0x7f && r < 0xa0) && !strings.ContainsRune(keep, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
