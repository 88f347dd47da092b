package cli

import (
	"bytes"
	"encoding/json"
	"fmt"

	"attune/wire"
)

// encode returns v as JSON on one line, its tokens as they are.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// printJSON prints v on stdout as one line of JSON.
func (a *app) printJSON(v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	return a.printLine("%s", text)
}

// printLine prints a line on stdout.
func (a *app) printLine(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.Stdout, format+"\n", args...); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// printResult prints an execution as its caller wants it: the whole, or its result on
// one line.
func (a *app) printResult(e wire.Execution) error {
	if a.json {
		return a.printJSON(e)
	}
	return a.printLine("%s", compact(e.Result))
}

// compact returns JSON without white space between its tokens; null for none.
func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if len(value) == 0 || json.Compact(&b, value) != nil {
		return "null"
	}
	return b.String()
}
