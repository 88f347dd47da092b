package auth_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"attune/auth"
	"attune/wire"
)

// FuzzVerifier_Verify: no text that was not signed is a token, and none brings the
// verifier down.
func FuzzVerifier_Verify(f *testing.F) {
	// The fuzzer tries its seeds in processes of its own, each of which comes by here: the token must not depend on the time.
	good := token(f, map[string]any{"iat": 1700000000, "exp": 9999999999})
	for _, text := range []string{good, "", "..", good + "\n", good[:len(good)-1], strings.ToUpper(good), "eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + "."} {
		f.Add(text)
	}
	v := verifier(f, auth.Rules{})
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := v.Verify(t.Context(), text); err == nil && text != good {
			t.Errorf("%q is accepted as %+v", text, id)
		}
	})
}

// FuzzVerifier_Claims: whatever is signed, an identity is whole, or there is none.
func FuzzVerifier_Claims(f *testing.F) {
	for _, text := range []string{
		`{"sub":"7","exp":9999999999}`, `{"sub":"7","exp":9999999999,"roles":["admin"],"attune_filters":["entity:orders:*"]}`,
		`{"sub":"7","exp":1e309}`, `{"sub":"7","exp":9999999999,"token_type":"execution","metadata":{"execution_id":1}}`,
		`{"sub":"7","sub":"8","exp":"9999999999","aud":["a",1]}`, `null`, `[]`, `{"sub":"007","exp":9999999999,"attune_filters":null}`,
	} {
		f.Add(text)
	}
	v := verifier(f, auth.Rules{})
	part := base64.RawURLEncoding.EncodeToString
	head := part([]byte(`{"alg":"HS256","typ":"JWT"}`))
	f.Fuzz(func(t *testing.T, text string) {
		signed := head + "." + part([]byte(text))
		signature, err := jwt.SigningMethodHS256.Sign(signed, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		id, err := v.Verify(t.Context(), signed+"."+part(signature))
		if err != nil {
			refused(t, text, err, wire.CodeUnauthenticated)
			return
		}
		if id.Role != auth.RoleUser && id.Role != auth.RoleAdmin && id.Role != auth.RoleExecution || id.Expires.Before(time.Now()) {
			t.Errorf("%+v of %s", id, text)
		}
	})
}

// FuzzParsePattern: a pattern prints as it was written, and covers no more than it
// matches.
func FuzzParsePattern(f *testing.F) {
	for _, text := range []string{"all", "entity:orders:*", "entity:*:*", "user:*", "user:-1", "entity_type:execution", "notification_type:x", "entity:a:b:*", "*", "user:٣"} {
		f.Add(text, "entity:orders:42")
		f.Add(text, "user:7")
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		p, err := auth.ParsePattern(text)
		if err != nil {
			return
		}
		if p.String() != text {
			t.Errorf("%q prints as %q", text, p)
		}
		filter, err := wire.ParseFilter(other)
		if err != nil || !p.Covers(filter) {
			return
		}
		// What the filter brings, the pattern lets through.
		n := &wire.Notification{NotificationType: "n", EntityType: "e", EntityID: wire.IntID(1), UserID: new(int64(7))}
		fields := strings.Split(other, ":")
		switch fields[0] {
		case "entity_type":
			n.EntityType = fields[1]
		case "notification_type":
			n.NotificationType = fields[1]
		case "entity":
			n.EntityType = fields[1]
			if n.EntityID, err = wire.TextID(fields[2]); err != nil {
				t.Fatal(err)
			}
		case "user":
			user, _ := filter.User()
			n.UserID = &user
		}
		if !filter.Matches(n) || !p.Matches(n) {
			t.Errorf("%s covers %s, but does not let %+v through", text, other, n)
		}
	})
}

// FuzzTakeTicket: only what was issued is a ticket.
func FuzzTakeTicket(f *testing.F) {
	a := auth.NewAuthority(verifier(f, auth.Rules{}))
	f.Add("")
	f.Add(strings.Repeat("A", 43))
	f.Add("../../../../etc/passwd")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := a.TakeTicket(text); err == nil {
			t.Errorf("%q lets %+v in", text, id)
		}
	})
}

// FuzzParseRevocation: what is understood names one token or one user.
func FuzzParseRevocation(f *testing.F) {
	for _, text := range []string{`{"revoke":{"jti":"abc"}}`, `{"revoke":{"user":7}}`, `{"revoke":{"user":7,"jti":"a"}}`, `{"revoke":{"user":1e3}}`, `{}`, "\x00"} {
		f.Add(text)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, text string) {
		r, err := auth.ParseRevocation(text, now)
		if err == nil && (r.At != now || r.TokenID != "" && r.User != 0) {
			t.Errorf("%q: %+v", text, r)
		}
	})
}
