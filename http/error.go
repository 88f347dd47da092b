package http

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5"

	"attune/broadcast"
	"attune/wire"
)

// Close codes of WebSockets, beyond RFC 6455's own.
const (
	closeTokenExpired    websocket.StatusCode = 4401
	closeAccessWithdrawn websocket.StatusCode = 4403
	closeSlowConsumer    websocket.StatusCode = 4408
)

// statusClientGone is nginx's for requests whose client went away. Nobody but our
// metrics sees it, where it is no failure of ours.
const statusClientGone = 499

// statusOf is the only table from error codes to HTTP statuses.
func statusOf(code wire.Code) int {
	switch code {
	case wire.CodeInvalidParameter, wire.CodeInvalidJSON, wire.CodeInvalidFilter, wire.CodeTooManyFilters,
		wire.CodeCursorNotFirst, wire.CodeUnknownType:
		return http.StatusBadRequest
	case wire.CodeUnauthenticated:
		return http.StatusUnauthorized
	case wire.CodeForbidden:
		return http.StatusForbidden
	case wire.CodeNotFound:
		return http.StatusNotFound
	case wire.CodeMethodNotAllowed, wire.CodeReadOnly:
		return http.StatusMethodNotAllowed
	case wire.CodeAlreadyTerminal:
		return http.StatusConflict
	case wire.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case wire.CodeUnknownAction:
		return http.StatusUnprocessableEntity
	case wire.CodeNoExecutions:
		return http.StatusNotImplemented
	case wire.CodeOverCapacity, wire.CodeNotReady:
		return http.StatusServiceUnavailable
	case wire.CodeInternal:
	}
	return http.StatusInternalServerError
}

// Problem is an error answer: RFC 9457 with our stable code.
type Problem struct {
	Type   string    `json:"type"`
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
	Code   wire.Code `json:"code"`
}

// problem answers with err. What is not a *wire.Error is ours alone: it is logged,
// and the client learns no more than that it happened.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, broadcast.ErrOverCapacity) {
		err = &wire.Error{Code: wire.CodeOverCapacity, Message: err.Error(), Err: err}
	}
	var e *wire.Error
	if !errors.As(err, &e) {
		if r.Context().Err() != nil {
			w.WriteHeader(statusClientGone)
			return
		}
		e = &wire.Error{Code: wire.CodeInternal, Message: "internal error; the server's log has the cause", Err: err}
		if problem := s.Source().Problem; problem != "" { // the same, most likely, and it passes
			s.Logger.WarnContext(r.Context(), "request failed while not ready", slog.String("route", routeOf(r)), slog.Any("err", err))
			e = &wire.Error{Code: wire.CodeNotReady, Message: problem}
		}
	}
	s.problemStatus(w, r, statusOf(e.Code), e)
}

// problemStatus answers with a status other than the code's usual one.
func (s *Server) problemStatus(w http.ResponseWriter, r *http.Request, status int, e *wire.Error) {
	if e.Code == wire.CodeInternal {
		s.Logger.ErrorContext(r.Context(), "request failed", slog.String("method", r.Method), slog.String("route", routeOf(r)), slog.Any("err", e.Err))
	}
	body := encode(Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message, Code: e.Code,
	})
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	if e.Code == wire.CodeUnauthenticated || e.Code == wire.CodeForbidden || e.Code == wire.CodeOverCapacity {
		s.metrics.refused.WithLabelValues(string(e.Code)).Inc()
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", challenge(e.Message))
	}
	if status == http.StatusMethodNotAllowed && w.Header().Values("Allow") == nil {
		w.Header().Set("Allow", "") // what is read-only may have no method at all
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, status, "application/problem+json", body)
}

// writeBody writes a whole answer, with the time for that starting now.
func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	if len(body) > writeChunk { // or the server's own deadline will do
		extend(w, timeoutOf(len(body)))
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away needs no answer
}

// extend gives the answer until so long from now.
func extend(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d)) // fails where the write will
}

// notFound answers for a path that there is not.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	s.problem(w, r, &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("no such path: %.200q", r.URL.Path)})
}

// methodNotAllowed answers 405 with the methods that the path has.
func (s *Server) methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		if routes.Match(chi.NewRouteContext(), http.MethodGet, r.URL.Path) {
			allowed = append(allowed, http.MethodGet, http.MethodHead)
		}
		if routes.Match(chi.NewRouteContext(), http.MethodPost, r.URL.Path) {
			allowed = append(allowed, http.MethodPost)
		}
		if routes.Match(chi.NewRouteContext(), http.MethodDelete, r.URL.Path) {
			allowed = append(allowed, http.MethodDelete)
		}
		if allowed == nil { // chi asks for a method that it does not know before it looks at the path
			s.notFound(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.problem(w, r, &wire.Error{Code: wire.CodeMethodNotAllowed, Message: r.Method + " is not for this path; see Allow"})
	}
}
