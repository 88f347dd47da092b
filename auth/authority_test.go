package auth_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"attune/auth"
	"attune/wire"
)

func TestAuthority_Tickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewAuthority(verifier(t, auth.Rules{}))
		id, err := a.Verify(t.Context(), token(t, map[string]any{"jti": "a", "exp": time.Now().Add(time.Minute).Unix()}))
		if err != nil {
			t.Fatal(err)
		}
		issue := func() string {
			text, expires, err := a.IssueTicket(id)
			if err != nil || !expires.Equal(time.Now().Add(auth.TicketLife)) {
				t.Fatal(expires, err)
			}
			return text
		}
		text := issue()
		for _, bad := range []string{"", text[1:], text + "A", strings.ToUpper(text), " " + text, strings.Repeat("A", len(text))} {
			if _, err := a.TakeTicket(bad); bad != text {
				refused(t, bad, err, wire.CodeUnauthenticated, "POST /tickets")
			}
		}
		if got, err := a.TakeTicket(text); err != nil || got != id {
			t.Errorf("%v, %v", got, err)
		}
		_, err = a.TakeTicket(text)
		refused(t, "used twice", err, wire.CodeUnauthenticated, "used")

		text = issue()
		time.Sleep(auth.TicketLife) //nolint:forbidigo // time is synctest's
		_, err = a.TakeTicket(text)
		refused(t, "too old", err, wire.CodeUnauthenticated, "30 s")

		for range 200 {
			issue()
		}
		_, _, err = a.IssueTicket(id)
		refused(t, "too many", err, wire.CodeOverCapacity)
		time.Sleep(29 * time.Second) //nolint:forbidigo // time is synctest's
		_, _, err = a.IssueTicket(id)
		refused(t, "too many still", err, wire.CodeOverCapacity)
		time.Sleep(time.Second) //nolint:forbidigo // time is synctest's
		text = issue()
		_, err = a.TakeTicket(text)
		refused(t, "of a token that expired", err, wire.CodeUnauthenticated, "expired")
	})
}

func TestAuthority_Revoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewAuthority(verifier(t, auth.Rules{}))
		one, two, old := token(t, map[string]any{"jti": "one"}), token(t, map[string]any{"jti": "two"}), token(t, map[string]any{"iat": nil})
		other := token(t, map[string]any{"sub": "8"})
		watch := func(text string) chan error {
			id, err := a.Verify(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 2)
			g := a.NewGrant(id)
			g.Watch(func(err error) { ended <- err })
			t.Cleanup(g.Stop)
			return ended
		}
		ends := []chan error{watch(one), watch(two), watch(old), watch(other)}
		state := func(want ...error) {
			t.Helper()
			for i, ch := range ends {
				var got error
				select {
				case got = <-ch:
				default:
				}
				if !errors.Is(got, want[i]) {
					t.Errorf("stream %d: %v, want %v", i, got, want[i])
				}
			}
		}
		a.Revoke(auth.Revocation{TokenID: "one"})
		state(auth.ErrWithdrawn, nil, nil, nil)
		_, err := a.Verify(t.Context(), one)
		refused(t, "revoked", err, wire.CodeUnauthenticated, "revoked")
		a.Revoke(auth.Revocation{User: 7, At: time.Now()})
		_, err = a.Verify(t.Context(), two)
		refused(t, "user revoked", err, wire.CodeUnauthenticated, "revoked")
		_, err = a.Verify(t.Context(), old)
		refused(t, "user revoked, no iat", err, wire.CodeUnauthenticated, "revoked")
		watch(other)
		time.Sleep(time.Second) //nolint:forbidigo // time is synctest's
		watch(token(t))         // issued since
	})
}

func TestGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewAuthority(verifier(t, auth.Rules{Leeway: 5 * time.Second}))
		id, err := a.Verify(t.Context(), token(t, map[string]any{"exp": time.Now().Add(time.Minute).Unix()}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ended := make(chan error, 2)
		g := a.NewGrant(id)
		g.Watch(func(err error) { ended <- err })
		defer g.Stop()
		for _, bad := range []string{"x", token(t, map[string]any{"sub": "8"}), token(t, map[string]any{"token_type": "execution", "metadata": map[string]any{"execution_id": 1}})} {
			if _, err := g.Refresh(t.Context(), bad); err == nil {
				t.Error("refreshed with a token of somebody else")
			}
		}
		if _, err := g.Refresh(t.Context(), token(t, map[string]any{"exp": time.Now().Add(2 * time.Minute).Unix(), "roles": []string{"admin"}})); err != nil {
			t.Fatal(err)
		}
		if g.Identity().Role != auth.RoleAdmin {
			t.Error("the roles are the old token's")
		}
		if err := <-ended; !errors.Is(err, auth.ErrExpired) {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*time.Minute+5*time.Second {
			t.Errorf("ended after %s", took)
		}
		// With authentication off nothing ends, and nothing is to refresh.
		off := (*auth.Authority)(nil).NewGrant(auth.Anyone())
		off.Watch(nil)
		off.Stop()
		_, err = off.Refresh(t.Context(), "x")
		refused(t, "off", err, wire.CodeForbidden, "off")
	})
}

func TestParseRevocation(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]auth.Revocation{
		`{"revoke":{"jti":"abc"}}`:       {TokenID: "abc", At: now},
		` {"revoke": {"user": -7 }}`:     {User: -7, At: now},
		`{"revoke":{"user":"7"}}`:        {},
		`{"revoke":{"user":7.0}}`:        {},
		`{"revoke":{"jti":""}}`:          {},
		`{"revoke":{"jti":7}}`:           {},
		`{"revoke":{}}`:                  {},
		`{"revoke":{"user":7,"jti":""}}`: {},
		`{"revoke":null}`:                {},
		`{"user":7}`:                     {},
		`[]`:                             {},
		``:                               {},
	} {
		got, err := auth.ParseRevocation(text, now)
		if (err != nil) != (want == auth.Revocation{}) || got != want && err == nil {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
