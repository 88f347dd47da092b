package http

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"attune/wire"
)

const (
	// maxLimiters bounds how many clients are told apart; more than that share.
	maxLimiters = 10_000
	// bodyTimeout is how long the body of a request may take.
	bodyTimeout = 10 * time.Second
)

// rates bounds how often something may be done in a second, by whom; twice as often at
// once. A rate of 0 is no bound.
type rates struct {
	perSecond float64

	mu       sync.Mutex
	limiters map[string]*rate.Limiter
	others   *rate.Limiter
	swept    time.Time
}

// allow reports whether key may do it now.
func (r *rates) allow(key string) bool {
	if r.perSecond <= 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limiters[key]
	if l == nil {
		l = r.add(key)
	}
	return l.Allow()
}

// add makes a limiter for key. Those that are at rest are forgotten first: they would
// begin like new ones.
func (r *rates) add(key string) *rate.Limiter {
	if r.limiters == nil {
		r.limiters, r.others = make(map[string]*rate.Limiter), newLimiter(r.perSecond)
	}
	if now := time.Now(); len(r.limiters) >= maxLimiters && now.Sub(r.swept) >= time.Second {
		r.swept = now
		for known, l := range r.limiters {
			if l.Tokens() >= float64(l.Burst()) {
				delete(r.limiters, known)
			}
		}
	}
	if len(r.limiters) >= maxLimiters {
		return r.others
	}
	l := newLimiter(r.perSecond)
	r.limiters[key] = l
	return l
}

func newLimiter(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
}

// ofAddress refuses requests of an address that makes too many, and bounds how long
// their bodies take. A connection ends with a body in chunks: net/http does not tell if
// the request gave a length too, and whatever passed it on may have gone by that
// (RFC 9112, section 6.1).
func (s *Server) ofAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		if !s.byAddress.allow(s.clientAddress(r)) {
			s.tooOften(w, r, "your address", s.byAddress.perSecond)
			return
		}
		if r.ContentLength != 0 {
			// Also for whoever does not read it: net/http does.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// tooOften answers 429.
func (s *Server) tooOften(w http.ResponseWriter, r *http.Request, of string, perSecond float64) {
	w.Header().Set("Retry-After", "1")
	s.problemStatus(w, r, http.StatusTooManyRequests, &wire.Error{
		Code:    wire.CodeOverCapacity,
		Message: fmt.Sprintf("too many requests of %s: %v a second are served", of, perSecond),
	})
}

// userKey is a user among the keys of rates and capacity.
func userKey(user int64) string { return strconv.FormatInt(user, 10) }
