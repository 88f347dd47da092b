package http

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"attune/broadcast"
	"attune/wire"
)

const maxWait = 5 * time.Minute

// parseFilters parses the filters of a URL.
func parseFilters(q url.Values) ([]wire.Filter, error) {
	texts := q["filter"]
	filters := make([]wire.Filter, 0, len(texts))
	for _, text := range texts {
		f, err := wire.ParseFilter(text)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	if len(filters) > broadcast.MaxFilters {
		return nil, &wire.Error{
			Code:    wire.CodeInvalidFilter,
			Message: fmt.Sprintf("%d filters: at most %d are accepted", len(filters), broadcast.MaxFilters),
		}
	}
	return filters, nil
}

// parseCursor returns the cursor of a URL, as sent; nil if there is none.
func parseCursor(q url.Values) *string {
	if !q.Has("cursor") {
		return nil
	}
	cursor := q.Get("cursor")
	return &cursor
}

// parseMode parses "mode": how a client wants to be served when it falls behind.
func parseMode(q url.Values) ([]broadcast.ConnectOption, error) {
	switch mode := q.Get("mode"); {
	case !q.Has("mode"):
		return nil, nil
	case mode == "latest":
		return []broadcast.ConnectOption{broadcast.Latest()}, nil
	default:
		return nil, invalid("mode %.40q: want latest", mode)
	}
}

// parseWait parses "wait": a duration or whole seconds.
func parseWait(q url.Values) (time.Duration, error) {
	if !q.Has("wait") {
		return 0, nil
	}
	text := q.Get("wait")
	wait, err := time.ParseDuration(text)
	if err != nil {
		var seconds uint64
		seconds, err = strconv.ParseUint(text, 10, 16)
		wait = time.Duration(seconds) * time.Second
	}
	if err != nil || wait < 0 || wait > maxWait {
		return 0, invalid("wait %.40q: want a duration such as 30s or 1m30s, or whole seconds, at most 5m", text)
	}
	return wait, nil
}

// parseID parses an execution's id in the path.
func parseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, invalid("execution id %.40q: want an integer of 64 bits", text)
	}
	return id, nil
}

// parseQuery parses the parameters of a list of executions.
func parseQuery(q url.Values) (wire.ExecutionQuery, error) {
	query := wire.ExecutionQuery{Status: wire.Status(q.Get("status")), ActionRef: q.Get("action_ref"), Limit: 50}
	if query.Status != "" && !query.Status.Known() {
		return query, invalid("status %.40q: want one of %v", query.Status, wire.Statuses())
	}
	var err error
	if text := q.Get("limit"); text != "" {
		if query.Limit, err = strconv.Atoi(text); err != nil || query.Limit < 1 || query.Limit > 500 {
			return query, invalid("limit %.40q: want 1 to 500", text)
		}
	}
	if query.Parent, err = parseOptionalID(q, "parent"); err != nil {
		return query, err
	}
	query.Before, err = parseOptionalID(q, "before")
	return query, err
}

func parseOptionalID(q url.Values, name string) (*int64, error) {
	text := q.Get(name)
	if text == "" {
		return nil, nil //nolint:nilnil // absent is not wrong
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, invalid("%s %.40q: want the id of an execution", name, text)
	}
	return &id, nil
}

func invalid(format string, args ...any) *wire.Error {
	return &wire.Error{Code: wire.CodeInvalidParameter, Message: fmt.Sprintf(format, args...)}
}

// query parses the URL's query, which ParseQuery, unlike URL.Query, does not let
// pass when it is malformed.
func query(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("query string: %v", err)
	}
	return q, nil
}
