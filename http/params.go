package http

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"attune/auth"
	"attune/broadcast"
	"attune/wire"
)

const maxWait = 5 * time.Minute

// maxList is the longest page of a list.
const maxList = 500

// streamRequest is what the URL of a stream asks for.
type streamRequest struct {
	filters []wire.Filter
	resume  *string // the cursor, as sent
	options []broadcast.ConnectOption
	grant   *auth.Grant // what may be seen, and for how long
}

// parseStream parses the URL of /ws and /events, and finds out what may be seen. Where
// the URL names no filter, it is byDefault.
func (s *Server) parseStream(r *http.Request, byDefault ...wire.Filter) (req streamRequest, err error) {
	q, err := query(r)
	if err != nil {
		return req, err
	}
	for _, text := range q["filter"] {
		f, err := wire.ParseFilter(text)
		if err != nil {
			return req, err
		}
		req.filters = append(req.filters, f)
	}
	if len(req.filters) > broadcast.MaxFilters {
		return req, &wire.Error{
			Code:    wire.CodeInvalidFilter,
			Message: fmt.Sprintf("%d filters: at most %d are accepted", len(req.filters), broadcast.MaxFilters),
		}
	}
	if len(req.filters) == 0 {
		req.filters = byDefault
	}
	if q.Has("cursor") {
		cursor := q.Get("cursor")
		req.resume = &cursor
	}
	switch mode := q.Get("mode"); {
	case mode == "latest":
		req.options = append(req.options, broadcast.Latest())
	case q.Has("mode"):
		return req, invalid("mode %.40q: want latest", mode)
	}
	return req, s.access(r, &req)
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

// parseID parses an execution's id in the path: an integer as we write it ourselves.
func parseID(text string) (int64, error) {
	plain, err := url.PathUnescape(text)
	id, intErr := strconv.ParseInt(plain, 10, 64)
	if err != nil || intErr != nil || strconv.FormatInt(id, 10) != plain {
		return 0, invalid("execution id %.40q: want an integer of 64 bits", text)
	}
	return id, nil
}

// parseQuery parses the parameters of a list of executions.
func parseQuery(q url.Values) (wire.ExecutionQuery, error) {
	query := wire.ExecutionQuery{Status: wire.Status(q.Get("status")), ActionRef: q.Get("action_ref")}
	if query.Status != "" && !query.Status.Known() {
		return query, invalid("status %.40q: want one of %v", query.Status, wire.Statuses())
	}
	var err error
	if query.Limit, err = parseLimit(q); err != nil {
		return query, err
	}
	if text := q.Get("brief"); text != "" {
		if query.Brief, err = strconv.ParseBool(text); err != nil {
			return query, invalid("brief %.40q: want true or false", text)
		}
	}
	if query.Parent, err = parseOptionalID(q, "parent"); err != nil {
		return query, err
	}
	query.Before, err = parseOptionalID(q, "before")
	return query, err
}

// parseLimit parses how long a page of a list may be.
func parseLimit(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return 50, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxList {
		return 0, invalid("limit %.40q: want 1 to %d", text, maxList)
	}
	return limit, nil
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
	for name, values := range q {
		if len(values) > 1 && name != "filter" {
			return nil, invalid("%.40q is given %d times: send one; only filter may be repeated", name, len(values))
		}
	}
	return q, nil
}
