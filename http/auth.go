package http

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"attune/auth"
	"attune/broadcast"
	"attune/wire"
)

// The ways in, besides the header Authorization.
const (
	// tokenSubprotocol precedes a token among the subprotocols that a WebSocket offers.
	tokenSubprotocol = "attune.jwt." //nolint:gosec // a prefix
	ticketParameter  = "ticket"
	sessionCookie    = "attune_token"
)

// waysIn tells whoever came without a token what to do.
const waysIn = `send "Authorization: Bearer <token>", the WebSocket subprotocols "attune.v1, attune.jwt.<token>", ` +
	"the cookie that POST /session sets, or to /ws and /events a ?ticket= from POST /tickets"

// identityKey is where a request's context holds its *auth.Identity.
type identityKey struct{}

// authenticate lets requests through whose bearer is known, and answers 401 to all
// others. Where authentication is off everybody is auth.Anyone.
func (s *Server) authenticate(next http.Handler) http.Handler {
	anyone := auth.Anyone()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What is answered is for those who ask for it, not for pages that embed it.
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		id := anyone
		if s.Auth != nil {
			var err error
			if id, err = s.identify(r); err != nil {
				s.problem(w, r, err)
				return
			}
			if !s.byUser.allow(userKey(id.User)) {
				s.tooOften(w, r, "yours", s.byUser.perSecond)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
	})
}

// identityOf returns who makes a request; nil, who may do nothing, where it did not go
// through authenticate.
func identityOf(r *http.Request) *auth.Identity {
	id, _ := r.Context().Value(identityKey{}).(*auth.Identity)
	return id
}

// may reports, as an error, whether the one who makes the request may do that.
func may(r *http.Request, action auth.Action, about auth.Subject) error {
	return identityOf(r).May(action, about)
}

// onExecution is what an action on one execution is about.
func onExecution(id int64, executor *int64) auth.Subject {
	return auth.Subject{Filter: executionFilter(id), Owner: executor}
}

// onExecutions is what an action on executions at large is about.
func onExecutions() auth.Subject { return auth.Subject{Filter: mustFilter("entity_type:execution")} }

// onEverything is what an action on the server is about.
func onEverything() auth.Subject { return auth.Subject{Filter: mustFilter("all")} }

// mustFilter parses a filter that is written here.
func mustFilter(text string) wire.Filter {
	f, err := wire.ParseFilter(text)
	if err != nil {
		panic(err)
	}
	return f
}

// identify finds out who makes a request.
func (s *Server) identify(r *http.Request) (*auth.Identity, error) {
	c, err := credentialOf(r)
	switch {
	case err != nil:
		return nil, err
	case c.way == byTicket:
		return s.Auth.TakeTicket(c.text)
	case c.way == byNothing:
		return nil, &wire.Error{Code: wire.CodeUnauthenticated, Message: "who are you? " + waysIn}
	case c.way == byCookie:
		if err := ownPage(r); err != nil {
			return nil, err
		}
	}
	return s.Auth.Verify(r.Context(), c.text)
}

// way is how a credential came.
type way uint8

const (
	byNothing way = iota
	byHeader
	bySubprotocol
	byTicket
	byCookie
)

// credential is what a request shows for itself.
type credential struct {
	way  way
	text string // the token, or the ticket
}

// credentialOf returns what a request shows, at most one thing: of two, one would be
// believed and the other looked at. Only the cookie, which a browser adds by itself,
// gives way.
func credentialOf(r *http.Request) (credential, error) {
	q, err := query(r)
	if err != nil {
		return credential{}, err
	}
	for _, name := range []string{"token", "access_token", "jwt"} {
		if q.Has(name) {
			return credential{}, invalid("?%s= would end up in logs and histories: POST /tickets with the token as bearer gives a ticket for one use, to be sent as ?ticket=", name)
		}
	}
	var shown []credential
	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return credential{}, &wire.Error{Code: wire.CodeUnauthenticated, Message: `Authorization: want "Bearer <token>"`}
		}
		shown = append(shown, credential{byHeader, strings.TrimSpace(token)})
	}
	stream := r.URL.Path == "/ws" || r.URL.Path == "/events"
	if r.URL.Path == "/ws" {
		for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
			for name := range strings.SplitSeq(line, ",") {
				if token, ok := strings.CutPrefix(strings.TrimSpace(name), tokenSubprotocol); ok {
					shown = append(shown, credential{bySubprotocol, token})
				}
			}
		}
	}
	for _, ticket := range q[ticketParameter] {
		if !stream {
			return credential{}, invalid("a ticket is for /ws and /events only: send the token as bearer")
		}
		shown = append(shown, credential{byTicket, ticket})
	}
	if len(shown) == 0 {
		for _, cookie := range r.CookiesNamed(sessionCookie) {
			shown = append(shown, credential{byCookie, cookie.Value})
		}
	}
	switch len(shown) {
	case 0:
		return credential{}, nil
	case 1:
		return shown[0], nil
	}
	return credential{}, invalid("%d credentials: send one", len(shown))
}

// ownPage returns an error unless a request that carries the cookie comes from a page
// that may use it. sameOrigin has looked at Origin already; a browser sends none with
// what a page embeds, and tells by Sec-Fetch-Site whose page it is.
func ownPage(r *http.Request) error {
	if r.Header.Get("Origin") != "" {
		return nil
	}
	site := r.Header.Get("Sec-Fetch-Site")
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if changes && site != "same-origin" {
		return &wire.Error{
			Code:    wire.CodeForbidden,
			Message: "a call that changes something and carries the cookie must prove that it comes from this server's own page: send Origin, or the token as bearer",
		}
	}
	if site == "cross-site" || site == "same-site" {
		return &wire.Error{Code: wire.CodeForbidden, Message: "the cookie is for this server's own pages"}
	}
	return nil
}

// access gives a stream the rights of the one who opens it, unless he may not follow one
// of the filters.
func (s *Server) access(r *http.Request, req *streamRequest) error {
	for _, f := range req.filters {
		if err := may(r, auth.Subscribe, auth.Subject{Filter: f}); err != nil {
			return err
		}
	}
	req.grant = s.Auth.NewGrant(identityOf(r))
	if s.Auth != nil {
		req.options = append(req.options, broadcast.Allowed(req.grant.Receives))
	}
	return nil
}

// whileGranted returns a context that ends, with the reason as its cause, when the access
// of the one who makes the request does.
func (s *Server) whileGranted(r *http.Request) (ctx context.Context, done func()) {
	if s.Auth == nil { // nothing ends it
		return r.Context(), func() {}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	grant := s.Auth.NewGrant(identityOf(r))
	grant.Watch(cancel)
	return ctx, func() {
		grant.Stop()
		cancel(nil)
	}
}

// observers lets those through who may see figures about the server.
func (s *Server) observers(next http.Handler) http.Handler {
	return s.authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := may(r, auth.Observe, onEverything()); err != nil {
			s.problem(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// refresh takes over a new token for an open WebSocket.
func (c *webSocket) refresh(ctx context.Context, token string) error {
	id, err := c.grant.Refresh(ctx, token)
	if err != nil {
		return err
	}
	c.sub.Send(wire.Authenticated{UserID: id.User, ExpiresAt: id.Expires.UTC()})
	return nil
}

// challenge is the header WWW-Authenticate of a 401.
func challenge(detail string) string {
	return fmt.Sprintf(`Bearer realm="attune", error="invalid_token", error_description=%q`, strings.ReplaceAll(detail, `"`, "'"))
}
