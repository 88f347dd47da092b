package cli

import (
	"bytes"
	"encoding/json"
	"fmt"

	"attune/wire"
)

// printJSON prints v on stdout as one line of JSON, its tokens as they are.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
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
