package auth

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"attune/wire"
)

// Authority says who is let in, and for how long. Its methods may be called from
// several goroutines.
type Authority struct {
	verifier *Verifier
	tickets  tickets

	mu      sync.Mutex
	revoked revocations
	grants  map[*Grant]struct{} // of the streams that are open
}

// NewAuthority returns an Authority that believes a Verifier.
func NewAuthority(v *Verifier) *Authority {
	return &Authority{verifier: v, grants: make(map[*Grant]struct{})}
}

// Verify returns who a token speaks of, unless it was revoked. The error is a
// *wire.Error with CodeUnauthenticated.
func (a *Authority) Verify(ctx context.Context, token string) (*Identity, error) {
	id, err := a.verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return id, a.check(id)
}

// check returns an error if what was verified a while ago counts no more.
func (a *Authority) check(id *Identity) error {
	if !time.Now().Before(id.Ends) {
		return ErrExpired
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked.covers(id) {
		return ErrWithdrawn
	}
	return nil
}

// IssueTicket returns a ticket that lets the identity in once, and until when.
func (a *Authority) IssueTicket(id *Identity) (text string, expires time.Time, err error) {
	return a.tickets.issue(id, time.Now())
}

// TakeTicket uses a ticket up and returns who it lets in. The error is a *wire.Error
// with CodeUnauthenticated.
func (a *Authority) TakeTicket(text string) (*Identity, error) {
	id := a.tickets.take(text, time.Now())
	if id == nil {
		return nil, unauthenticated("the ticket is unknown, used or older than 30 s: POST /tickets gives a new one", nil)
	}
	return id, a.check(id)
}

// Revoke withdraws tokens: those that are shown from now on are refused, and the
// streams that were opened with them end with ErrWithdrawn.
func (a *Authority) Revoke(revoked ...Revocation) {
	a.mu.Lock()
	for _, r := range revoked {
		a.revoked.add(r)
	}
	var ended []*Grant
	for g := range a.grants {
		if a.revoked.covers(g.Identity()) {
			ended = append(ended, g)
		}
	}
	a.mu.Unlock()
	for _, g := range ended {
		g.end(ErrWithdrawn)
	}
}

// Grant is the access of one stream or wait: an identity, which a refreshed token may
// replace, and its end.
type Grant struct {
	authority *Authority // nil where authentication is off
	identity  atomic.Pointer[Identity]

	// Set by Watch, under the authority's lock.
	end   func(error)
	timer *time.Timer
}

// NewGrant returns the access of id. The Authority may be nil: authentication is off.
func (a *Authority) NewGrant(id *Identity) *Grant {
	g := &Grant{authority: a}
	g.identity.Store(id)
	return g
}

// Identity returns whose access it is now.
func (g *Grant) Identity() *Identity { return g.identity.Load() }

// Receives reports whether a notification may be delivered now.
func (g *Grant) Receives(n *wire.Notification) bool { return g.identity.Load().Receives(n) }

// Watch calls end, once or more and from another goroutine, when the access is over:
// with ErrExpired or ErrWithdrawn. The caller must Stop the grant, after which end may
// be called one last time.
func (g *Grant) Watch(end func(error)) {
	a := g.authority
	if a == nil {
		return
	}
	id := g.Identity()
	g.end = end
	a.mu.Lock()
	defer a.mu.Unlock()
	a.grants[g] = struct{}{}
	wait, why := time.Until(id.Ends), ErrExpired
	if a.revoked.covers(id) { // since it was verified
		wait, why = 0, ErrWithdrawn
	}
	g.timer = time.AfterFunc(wait, func() { end(why) })
}

// Stop ends what Watch began; without it, it does nothing.
func (g *Grant) Stop() {
	a := g.authority
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.grants, g)
	if g.timer != nil {
		g.timer.Stop()
	}
}

// Refresh replaces the identity by that of a new token, which must speak of the same
// user. The error is a *wire.Error; the access is as it was then.
func (g *Grant) Refresh(ctx context.Context, token string) (*Identity, error) {
	a := g.authority
	if a == nil {
		return nil, forbidden("authentication is off on this server: there is nothing to refresh")
	}
	id, err := a.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := g.Identity()
	if id.User != before.User || (id.Role == RoleExecution) != (before.Role == RoleExecution) || id.Execution != before.Execution {
		return nil, forbidden("the token speaks of somebody else: open another connection for it")
	}
	if a.revoked.covers(id) {
		return nil, ErrWithdrawn
	}
	g.identity.Store(id)
	if g.timer != nil {
		g.timer.Reset(time.Until(id.Ends))
	}
	return id, nil
}
