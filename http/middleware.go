package http

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"attune/wire"
)

// observe counts and logs requests. Streams are counted apart, by how long they are
// open, not as requests.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		started := time.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		took, route := time.Since(started), routeOf(r)
		if route != "/ws" && route != "/events" {
			s.metrics.requests.WithLabelValues(route, methodLabel(r.Method), statusClass(rec.status)).Observe(took.Seconds())
		}
		if s.Logger.Enabled(r.Context(), slog.LevelDebug) {
			s.Logger.DebugContext(r.Context(), "request", slog.String("method", r.Method), slog.String("route", route),
				slog.Int("status", rec.status), slog.Duration("took", took))
		}
	})
}

// recover turns a panic into a 500 and a log line with its stack.
func (s *Server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v) // net/http's own way to drop a connection
			}
			s.problem(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}()
		next.ServeHTTP(w, r)
	})
}

// ownName refuses requests for a foreign domain where there is no authentication but
// the loopback address: a page of that domain, once its name leads here, would be of
// our own origin. Only names with a dot can be somebody's on the internet.
func (s *Server) ownName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		listed := func(origin string) bool {
			_, host, _ := strings.Cut(origin, "://")
			return strings.EqualFold(host, r.Host)
		}
		if s.LoopbackOnly && isDomain(r.Host) && !slices.ContainsFunc(s.AllowedOrigins, listed) {
			s.problem(w, r, &wire.Error{
				Code: wire.CodeForbidden,
				Message: fmt.Sprintf("host %.200q: without authentication this server answers to no other domain than localhost "+
					"and those in ATTUNE_ALLOWED_ORIGINS, such as that of a proxy in front of it", r.Host),
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isDomain reports whether a Host header names a domain that may be anybody's.
func isDomain(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return net.ParseIP(host) == nil && strings.Contains(host, ".") && !strings.HasSuffix(host, ".localhost")
}

// sameOrigin lets pages of other origins in only if they are listed. Programs send
// no Origin.
func (s *Server) sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin") // also where there is none: a cache must not mix them up
		// All of them: of two, one would be believed and the other looked at.
		origin := strings.Join(r.Header.Values("Origin"), ", ")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		if slices.Contains(s.AllowedOrigins, origin) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.Header().Set("Access-Control-Expose-Headers", "Attune-Cursor, ETag, Location, Retry-After")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE")
				w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, Last-Event-ID")
				w.Header().Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		} else if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) || s.encrypted(r) && u.Scheme != "https" {
			s.problem(w, r, &wire.Error{
				Code:    wire.CodeForbidden,
				Message: fmt.Sprintf("origin %.200q may not call this server; ATTUNE_ALLOWED_ORIGINS lists those that may", origin),
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// routeOf returns the route's pattern: a bounded label, unlike the path.
func routeOf(r *http.Request) string {
	if rc := chi.RouteContext(r.Context()); rc != nil {
		if pattern := strings.TrimSuffix(rc.RoutePattern(), "/"); pattern != "" {
			return pattern
		}
		if r.URL.Path == "/" {
			return "/"
		}
	}
	return "unknown"
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

func statusClass(status int) string { return strconv.Itoa(status/100) + "xx" }

// statusRecorder remembers what was answered. For a ResponseController it is not
// there: a failed flush is seen, which a wrapper with a Flush of its own would hide.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
