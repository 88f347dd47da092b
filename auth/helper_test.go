package auth_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"attune/auth"
	"attune/wire"
)

// secret is as strong as it must be.
const secret = "nZ7wq2LrV0xT5bKcE9sYhG3uJdM8aPf1"

// claims are those of an access token of user 7, with changes; a nil value takes a claim
// away.
func claims(changes ...map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "7", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for _, change := range changes {
		maps.Copy(c, change)
	}
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
	return c
}

// sign makes a token with the headers besides alg and typ.
func sign(tb testing.TB, method jwt.SigningMethod, key any, c jwt.Claims, headers ...map[string]any) string {
	tb.Helper()
	token := jwt.NewWithClaims(method, c)
	for _, h := range headers {
		maps.Copy(token.Header, h)
	}
	text, err := token.SignedString(key)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// token makes a token that is signed with secret.
func token(tb testing.TB, changes ...map[string]any) string {
	tb.Helper()
	return sign(tb, jwt.SigningMethodHS256, []byte(secret), claims(changes...))
}

func verifier(tb testing.TB, rules auth.Rules) *auth.Verifier {
	tb.Helper()
	keys, err := auth.SecretKeys(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return auth.NewVerifier(keys, rules)
}

// refused checks that err is a *wire.Error with that code, whose message has the words.
func refused(tb testing.TB, what string, err error, code wire.Code, words ...string) {
	tb.Helper()
	e, ok := errors.AsType[*wire.Error](err)
	if !ok || e.Code != code {
		tb.Errorf("%s: %v, want %s", what, err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(e.Message, word) {
			tb.Errorf("%s: %q does not say %q", what, e.Message, word)
		}
	}
}

// verify checks that a token is accepted.
func verify(tb testing.TB, v *auth.Verifier, text string) *auth.Identity {
	tb.Helper()
	id, err := v.Verify(tb.Context(), text)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func equal[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: %v, want %v", what, got, want)
	}
}
