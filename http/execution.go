package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"attune/auth"
	"attune/wire"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// cursorHeader carries the position to follow from, taken before the rows were read.
const cursorHeader = "Attune-Cursor"

// needExecutions answers 501 where there is no execution table.
func (s *Server) needExecutions(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Executions == nil {
			s.problem(w, r, &wire.Error{
				Code:    wire.CodeNoExecutions,
				Message: "the database has no execution table; /events and /ws work without one",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// listExecutions serves GET /executions.
func (s *Server) listExecutions(w http.ResponseWriter, r *http.Request) {
	q, err := query(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	parsed, err := parseQuery(q)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if err := may(r, auth.ListExecutions, onExecutions()); err != nil {
		s.problem(w, r, err)
		return
	}
	parsed.VisibleTo = identityOf(r).VisibleTo()
	cursor := s.Hub.Cursor()
	list, err := s.Executions.List(r.Context(), parsed)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if list.Items == nil {
		list.Items = []wire.Execution{}
	}
	s.answer(w, r, http.StatusOK, cursor, encode(list))
}

// getExecution serves GET /executions/{id}, at once or as a long poll.
func (s *Server) getExecution(w http.ResponseWriter, r *http.Request) {
	id, err := parseID(chi.URLParam(r, "id"))
	if err != nil {
		s.problem(w, r, err)
		return
	}
	q, err := query(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	wait, err := parseWait(q)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	until := q.Get("until")
	if q.Has("until") && until != "terminal" {
		s.problem(w, r, invalid("until %.40q: want terminal", until))
		return
	}
	// Before anything is read: who may not read it whoever's it is does not learn that it exists.
	identity := identityOf(r)
	if err := identity.May(auth.ReadExecution, onExecution(id, nil)); err != nil {
		s.problem(w, r, err)
		return
	}
	readable := func(seen *reading) error { return identity.May(auth.ReadExecution, onExecution(id, seen.owner)) }
	known := knownTags(r)

	var seen *reading
	if wait == 0 {
		seen, err = s.readExecution(r.Context(), id, wantsNew(r))
	} else {
		leave, full := s.admit(r)
		if full != nil {
			s.problem(w, r, full)
			return
		}
		defer leave()
		extend(w, wait+answerTimeout) // over HTTP/2 the server's own deadline would end the wait
		open := s.metrics.connections.WithLabelValues("longpoll")
		open.Inc()
		defer open.Dec()
		ctx, done := s.whileGranted(r)
		defer done()
		seen, err = s.awaitExecution(ctx, id, wait, readable, func(first, now *reading) bool {
			switch {
			case until == "terminal":
				return now.execution.Status.Terminal()
			case known != "":
				return !matches(known, now.etag)
			}
			return now.etag != first.etag
		})
	}
	if err == nil {
		err = readable(seen)
	}
	if err != nil {
		s.problem(w, r, err)
		return
	}
	s.answerUnless(w, r, seen.etag, seen.cursor, seen.body)
}

func (s *Server) readExecution(ctx context.Context, id int64, anew bool) (*reading, error) {
	return s.readings.get(ctx, executionName(id), anew, func(ctx context.Context, r *sharedReading) error {
		x, err := s.loadExecution(ctx, id, r.round)
		if err != nil {
			return err
		}
		r.setExecution(x)
		return nil
	})
}

// loadExecution reads an execution, in one query with all others of its round.
func (s *Server) loadExecution(ctx context.Context, id int64, r *round) (wire.Execution, error) {
	if r != nil {
		x, ok, err := r.executions.get(id, func(ids []int64) (map[int64]wire.Execution, error) { return s.getExecutions(ctx, ids) })
		if ok || err != nil {
			return x, err
		}
	}
	return s.Executions.Get(ctx, id)
}

// getExecutions reads executions; those that there are not are not in the map.
func (s *Server) getExecutions(ctx context.Context, ids []int64) (map[int64]wire.Execution, error) {
	executions, err := s.Executions.GetMany(ctx, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]wire.Execution, len(executions))
	for _, x := range executions {
		found[x.ID] = x
	}
	return found, nil
}

func executionName(id int64) rowName {
	return rowName{entityType: "execution", id: strconv.FormatInt(id, 10), execution: id, isExecution: true}
}

func executionFilter(id int64) wire.Filter {
	return wire.EntityFilter("execution", strconv.FormatInt(id, 10))
}

// awaitExecution reads an execution, and again whenever it may have changed, until
// enough says so, the wait is over or the server goes away. It does not wait for one
// that is not readable.
func (s *Server) awaitExecution(ctx context.Context, id int64, wait time.Duration, readable func(*reading) error, enough func(first, now *reading) bool) (*reading, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	// Before the first look: a change between the two is seen.
	looks, remove, err := s.polls.add(ctx, id)
	if err != nil {
		return nil, err
	}
	defer remove()
	first, err := s.readExecution(ctx, id, false)
	if err == nil {
		err = readable(first)
	}
	if err != nil || enough(first, first) {
		return first, err
	}
	for {
		select {
		case now := <-looks:
			switch {
			case now.err != nil:
				return nil, now.err
			case now.begun.After(first.begun) && enough(first, now.reading):
				return now.reading, nil
			}
		case <-timer.C:
			return s.readExecution(ctx, id, false)
		case <-s.closing:
			return s.readExecution(ctx, id, false)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// createExecution serves POST /executions.
func (s *Server) createExecution(w http.ResponseWriter, r *http.Request) {
	if s.readOnly(w, r) {
		return
	}
	if err := may(r, auth.CreateExecution, onExecutions()); err != nil {
		s.problem(w, r, err)
		return
	}
	req, err := decodeRequest(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the body is read; what follows may take its time
	req.Executor = identityOf(r).Creator()
	cursor := s.Hub.Cursor()
	x, err := s.Actions.Create(r.Context(), req)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Location", "/executions/"+strconv.FormatInt(x.ID, 10))
	s.answer(w, r, http.StatusCreated, cursor, encode(x))
}

// cancelExecution serves POST /executions/{id}/cancel.
func (s *Server) cancelExecution(w http.ResponseWriter, r *http.Request) {
	if s.readOnly(w, r) {
		return
	}
	id, err := parseID(chi.URLParam(r, "id"))
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if err := s.mayCancel(r, id); err != nil {
		s.problem(w, r, err)
		return
	}
	cursor := s.Hub.Cursor()
	x, err := s.Actions.Cancel(r.Context(), id)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	s.readings.forget(executionName(id)) // whoever has cancelled, and asks then, sees it
	s.answer(w, r, http.StatusAccepted, cursor, encode(x))
}

// mayCancel reports, as an error, whether the one who makes the request may cancel an
// execution. Its executor, which decides, does not change.
func (s *Server) mayCancel(r *http.Request, id int64) error {
	if s.Auth == nil {
		return nil
	}
	if err := may(r, auth.CancelExecution, onExecution(id, nil)); err != nil {
		return err
	}
	x, err := s.Executions.Get(r.Context(), id)
	if err != nil {
		return err
	}
	return may(r, auth.CancelExecution, onExecution(id, x.Executor))
}

func (s *Server) readOnly(w http.ResponseWriter, r *http.Request) bool {
	if s.Actions != nil {
		return false
	}
	if chi.URLParam(r, "id") == "" { // the path of cancelling has no other method
		w.Header().Set("Allow", "GET, HEAD")
	}
	s.problem(w, r, &wire.Error{
		Code:    wire.CodeReadOnly,
		Message: "executions are started by the platform that owns this database; ATTUNE_RUNNER=true turns on attune's own runner",
	})
	return true
}

// refuse answers for a body that is well formed but cannot be done: 422.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.CodeInvalidParameter {
		s.problemStatus(w, r, http.StatusUnprocessableEntity, e)
		return
	}
	s.problem(w, r, err)
}

// decodeRequest decodes the body of POST /executions.
func decodeRequest(body io.Reader) (wire.ExecutionRequest, error) {
	var req wire.ExecutionRequest
	b, err := io.ReadAll(body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return req, &wire.Error{Code: wire.CodeTooLarge, Message: fmt.Sprintf("the body is over %d bytes", maxBody), Err: err}
	case err != nil:
		return req, &wire.Error{Code: wire.CodeInvalidJSON, Message: "the body could not be read", Err: err}
	}
	members, err := wire.Object(b)
	if err != nil {
		return req, &wire.Error{Code: wire.CodeInvalidJSON, Message: `want a JSON object such as {"action_ref":"core.echo","parameters":{"message":"Hello!"}}`, Err: err}
	}
	for name, value := range members {
		switch name {
		case "action_ref":
			if json.Unmarshal(value, &req.ActionRef) != nil {
				return req, invalid("action_ref: want a string such as core.echo")
			}
		case "parameters":
			req.Parameters = value
		default:
			return req, invalid("unknown member %.40q: want action_ref and parameters", name)
		}
	}
	if req.ActionRef == "" {
		return req, invalid("action_ref: want the name of an action, such as core.echo")
	}
	return req, nil
}

// answerUnless writes a JSON answer, or 304 where If-None-Match says that the client
// has it.
func (s *Server) answerUnless(w http.ResponseWriter, r *http.Request, etag string, cursor wire.Cursor, body []byte) {
	w.Header().Set("ETag", etag)
	if matches(knownTags(r), etag) {
		w.Header().Set(cursorHeader, cursor.String())
		w.Header().Set("Cache-Control", "no-cache")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.answer(w, r, http.StatusOK, cursor, body)
}

// answer writes a JSON answer that carries rows.
func (s *Server) answer(w http.ResponseWriter, _ *http.Request, status int, cursor wire.Cursor, body []byte) {
	w.Header().Set(cursorHeader, cursor.String())
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-cache")
	}
	writeBody(w, status, "application/json", body)
}

// encode encodes v as a line, leaving the characters of its raw JSON as they are.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // what the database gave as JSON is JSON
	}
	return b.Bytes()
}

// etagOf returns the strong entity tag of a body.
func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// knownTags returns the entity tags that the client has.
func knownTags(r *http.Request) string { return strings.Join(r.Header.Values("If-None-Match"), ",") }

// matches reports whether an If-None-Match header names etag.
func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == etag || candidate == "*" {
			return true
		}
	}
	return false
}
