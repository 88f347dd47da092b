package runner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"attune/wire"
)

// presence says whether a parameter may be left out.
type presence bool

const (
	required presence = true
	optional presence = false
)

// parameters are those of one execution. Each is taken by name and type; the first
// thing that is wrong is kept for done, and so is what nobody has taken.
type parameters struct {
	action string
	values map[string]json.RawMessage
	known  []string
	err    error
}

// newParameters reads a JSON object; absent and null are the empty one.
func newParameters(action string, raw json.RawMessage) (*parameters, error) {
	p := &parameters{action: action}
	if len(bytes.TrimSpace(raw)) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(raw, &p.values); err != nil {
		return nil, &wire.Error{Code: wire.CodeInvalidParameter, Message: "parameters: want a JSON object"}
	}
	return p, nil
}

// take removes a parameter. ok is false when it is not there.
func (p *parameters) take(name string, need presence, want string) (raw json.RawMessage, ok bool) {
	p.known = append(p.known, name)
	raw, ok = p.values[name]
	delete(p.values, name)
	if !ok && need == required {
		p.wrong("parameter %q is missing: want %s", name, want)
	}
	return raw, ok
}

// text takes a string. given is false when it is not there.
func (p *parameters) text(name string, need presence, want string) (s string, given bool) {
	raw, given := p.take(name, need, want)
	if !given {
		return "", false
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		p.invalid(name, want)
		return "", true
	}
	return *text, true
}

// number takes a required number.
func (p *parameters) number(name, want string, accept func(float64) bool) float64 {
	var n *float64
	raw, ok := p.take(name, required, want)
	if !ok {
		return 0
	}
	if err := json.Unmarshal(raw, &n); err != nil || n == nil || !accept(*n) {
		p.invalid(name, want)
		return 0
	}
	return *n
}

// invalid notes that a parameter is not what is wanted.
func (p *parameters) invalid(name, want string) { p.wrong("parameter %q: want %s", name, want) }

func (p *parameters) wrong(format string, args ...any) {
	if p.err == nil {
		p.err = &wire.Error{Code: wire.CodeInvalidParameter, Message: fmt.Sprintf(format, args...)}
	}
}

// done returns what was wrong, parameters that nobody knows included.
func (p *parameters) done() error {
	// The unknown come first: a misspelt name is better named than called missing.
	if len(p.values) > 0 {
		accepted := strings.Join(p.known, ", ")
		if accepted == "" {
			accepted = "none"
		}
		return &wire.Error{
			Code:    wire.CodeInvalidParameter,
			Message: fmt.Sprintf("unknown parameter %.200q: %s accepts %s", slices.Min(slices.Collect(maps.Keys(p.values))), p.action, accepted),
		}
	}
	return p.err
}
