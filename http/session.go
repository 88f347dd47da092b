package http

import (
	"fmt"
	"net/http"
	"time"

	"attune/auth"
	"attune/wire"
)

// issueTicket serves POST /tickets: a browser cannot send headers with a stream, and a
// token in a URL is read by others.
func (s *Server) issueTicket(w http.ResponseWriter, r *http.Request) {
	if s.withoutAuth(w, r) {
		return
	}
	id := identityOf(r)
	if err := may(r, auth.TakeTicket, auth.Subject{}); err != nil {
		s.problem(w, r, err)
		return
	}
	text, expires, err := s.Auth.IssueTicket(id)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusCreated, encode(struct {
		Ticket    string    `json:"ticket"`
		ExpiresAt time.Time `json:"expires_at"`
	}{text, expires.UTC()}))
}

// maxCookie is the longest token that browsers keep in a cookie: with its name and what is
// said of it, 4096 bytes.
const maxCookie = 3900

// session is the answer of /session.
type session struct {
	UserID    *int64     `json:"user_id"`
	Admin     bool       `json:"admin"`
	Execution *int64     `json:"execution,omitempty"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// openSession serves POST /session: a browser gets the token that it shows as a cookie
// that no script can read.
func (s *Server) openSession(w http.ResponseWriter, r *http.Request) {
	if s.withoutAuth(w, r) {
		return
	}
	id := identityOf(r)
	c, err := credentialOf(r)
	if err == nil && c.way != byHeader {
		err = &wire.Error{Code: wire.CodeForbidden, Message: `a session is opened with "Authorization: Bearer <token>"`}
	}
	if err == nil {
		err = may(r, auth.OpenSession, auth.Subject{})
	}
	if err == nil && len(c.text) > maxCookie {
		err = &wire.Error{Code: wire.CodeTooLarge, Message: fmt.Sprintf("the token has %d characters: browsers keep cookies of up to %d", len(c.text), maxCookie)}
	}
	if err != nil {
		s.problem(w, r, err)
		return
	}
	http.SetCookie(w, s.cookie(r, c.text, id.Expires))
	s.showSession(w, r)
}

// showSession serves GET /session: who am I?
func (s *Server) showSession(w http.ResponseWriter, r *http.Request) {
	if s.withoutAuth(w, r) {
		return
	}
	id := identityOf(r)
	expires := id.Expires.UTC()
	answer := session{UserID: &id.User, Admin: id.Role == auth.RoleAdmin, ExpiresAt: &expires}
	if id.Role == auth.RoleExecution {
		answer.Execution = &id.Execution
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, encode(answer))
}

// closeSession serves DELETE /session, whatever has become of the token in the cookie.
func (s *Server) closeSession(w http.ResponseWriter, r *http.Request) {
	if s.withoutAuth(w, r) {
		return
	}
	if len(r.CookiesNamed(sessionCookie)) > 0 {
		if err := ownPage(r); err != nil {
			s.problem(w, r, err)
			return
		}
	}
	http.SetCookie(w, s.cookie(r, "", time.Unix(1, 0)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

// cookie is the session's. Only this server's own pages send it, and only what speaks
// HTTP reads it.
func (s *Server) cookie(r *http.Request, token string, expires time.Time) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure where it can be: on a loopback there may be no TLS
		Name: sessionCookie, Value: token, Path: "/", Expires: expires.UTC(),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.encrypted(r),
	}
}

// withoutAuth answers 404 where authentication is off: there is nobody to be.
func (s *Server) withoutAuth(w http.ResponseWriter, r *http.Request) bool {
	if s.Auth != nil {
		return false
	}
	s.problem(w, r, &wire.Error{Code: wire.CodeNotFound, Message: "authentication is off on this server: there are no sessions and no tickets, and no need for them"})
	return true
}
