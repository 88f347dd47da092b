package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"attune/wire"
)

// longestSleep bounds core.sleep, in seconds.
const longestSleep = 86400

// runFunc is an action with its parameters. Its error ends the execution as failed,
// or as timeout when it wraps errTimeout.
type runFunc func(ctx context.Context) (json.RawMessage, error)

// errTimeout marks the error of an action that took longer than it was given.
var errTimeout = errors.New("timed out")

// actions is what can be run, by name.
type actions struct {
	parse map[string]func(*parameters) runFunc
}

func newActions() *actions {
	return &actions{parse: map[string]func(*parameters) runFunc{
		"core.echo":         echo,
		"core.noop":         noop,
		"core.sleep":        sleep,
		"core.fail":         fail,
		"core.http_request": httpRequest,
	}}
}

func (a *actions) names() []string { return slices.Sorted(maps.Keys(a.parse)) }

// prepare finds an action and reads its parameters. The error is a *wire.Error with
// CodeUnknownAction or CodeInvalidParameter.
func (a *actions) prepare(ref string, raw json.RawMessage) (runFunc, error) {
	parse, ok := a.parse[ref]
	if !ok {
		return nil, &wire.Error{
			Code:    wire.CodeUnknownAction,
			Message: fmt.Sprintf("unknown action %.200q: want one of %s", ref, strings.Join(a.names(), ", ")),
		}
	}
	p, err := newParameters(ref, raw)
	if err != nil {
		return nil, err
	}
	run := parse(p)
	if err := p.done(); err != nil {
		return nil, err
	}
	return run, nil
}

// echo gives its message back.
func echo(p *parameters) runFunc {
	message, _ := p.text("message", required, "a string")
	return func(context.Context) (json.RawMessage, error) {
		return mustJSON(map[string]any{"message": message}), nil
	}
}

// noop does nothing.
func noop(*parameters) runFunc {
	return func(context.Context) (json.RawMessage, error) { return json.RawMessage(`{}`), nil }
}

// sleep waits for a number of seconds.
func sleep(p *parameters) runFunc {
	seconds := p.number("seconds", fmt.Sprintf("a number from 0 to %d", longestSleep), func(n float64) bool { return n >= 0 && n <= longestSleep })
	return func(ctx context.Context) (json.RawMessage, error) {
		timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-timer.C:
			return mustJSON(map[string]any{"seconds": seconds}), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fail fails, with a message.
func fail(p *parameters) runFunc {
	message, given := p.text("message", optional, "a string")
	if !given {
		message = "core.fail was asked to fail"
	}
	return func(context.Context) (json.RawMessage, error) { return nil, errors.New(message) }
}

// mustJSON encodes what was decoded from JSON, or made of strings and numbers.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("runner: %v", err)) // no such value is ever given
	}
	return b
}
