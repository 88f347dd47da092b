package cli

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"attune/wire"
)

// untilForms lists the accepted conditions.
const untilForms = "column=value, column=value1|value2, created or deleted"

// conditions are what `--until` asks of a row. All must hold.
type conditions struct {
	texts   []string // as they were given
	columns []columnIs
	created bool // the row need not exist yet
	deleted bool // it must not exist
}

// columnIs asks that a column has one of some values.
type columnIs struct {
	column string
	values []string
}

// parseConditions parses the values of --until.
func parseConditions(texts []string) (conditions, error) {
	if len(texts) == 0 {
		return conditions{}, usagef("until when? want --until with %s", untilForms)
	}
	c := conditions{texts: texts}
	for _, text := range texts {
		column, values, is := strings.Cut(text, "=")
		switch {
		case is && column != "":
			if slices.ContainsFunc(c.columns, func(other columnIs) bool { return other.column == column }) {
				return conditions{}, usagef("--until %q: one column can not have two values: for one of several, write %s=value1|value2", text, column)
			}
			c.columns = append(c.columns, columnIs{column, strings.Split(values, "|")})
		case text == "created":
			c.created = true
		case text == "deleted":
			c.deleted = true
		default:
			return conditions{}, usagef("--until %q: want %s", text, untilForms)
		}
	}
	if c.deleted && len(texts) > 1 {
		return conditions{}, usagef("--until deleted: a row that does not exist can not be anything else as well")
	}
	return c, nil
}

// hold reports whether a row is as it should be; nil is the payload of no row.
func (c conditions) hold(payload json.RawMessage) (bool, error) {
	if payload == nil || c.deleted {
		return payload == nil && c.deleted, nil
	}
	row, err := wire.Object(payload)
	if err != nil {
		return false, err
	}
	all := true
	for _, is := range c.columns {
		value, ok := row[is.column]
		if !ok {
			return false, usagef("--until: the row has no column %q that is watched: it has %s",
				is.column, strings.Join(slices.Sorted(maps.Keys(row)), ", "))
		}
		all = all && slices.Contains(is.values, valueText(value))
	}
	return all, nil
}

// tell returns the values that a payload has of the columns that are asked for.
func (c conditions) tell(payload json.RawMessage) string {
	row, err := wire.Object(payload)
	if err != nil {
		return ""
	}
	var told []string
	for _, is := range c.columns {
		if value, ok := row[is.column]; ok {
			told = append(told, is.column+"="+shorten(valueText(value)))
		}
	}
	return strings.Join(told, " ")
}

// String returns the conditions as they were given.
func (c conditions) String() string { return strings.Join(c.texts, " and ") }

// valueText returns what a value is compared as: a string's characters, of all else
// the JSON.
func valueText(value json.RawMessage) string {
	var s string
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &s) == nil {
		return s
	}
	return compact(value)
}

// shorten keeps a line of progress a line.
func shorten(s string) string {
	const most = 100
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
