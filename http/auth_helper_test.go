package http_test

import (
	"testing"
	"time"

	"attune/auth"
)

// secret signs the tokens of these tests.
const secret = "nZ7wq2LrV0xT5bKcE9sYhG3uJdM8aPf1"

// withAuth turns authentication on.
func withAuth(tb testing.TB) func(*setup) {
	tb.Helper()
	keys, err := auth.SecretKeys(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return func(cfg *setup) {
		cfg.Auth = auth.NewAuthority(auth.NewVerifier(keys, auth.Rules{}))
	}
}

// token makes a token of a user, with changes.
func token(tb testing.TB, user int64, changes ...func(*auth.Minting)) string {
	tb.Helper()
	m := auth.Minting{User: user, Life: time.Hour}
	for _, change := range changes {
		change(&m)
	}
	text, err := auth.Mint(secret, m)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func admin(m *auth.Minting) { m.Admin = true }

// only has the token list filters.
func only(filters ...string) func(*auth.Minting) {
	return func(m *auth.Minting) { m.Filters = append([]string{}, filters...) }
}

func forExecution(id int64) func(*auth.Minting) {
	return func(m *auth.Minting) { m.Execution = &id }
}

func lasting(d time.Duration) func(*auth.Minting) {
	return func(m *auth.Minting) { m.Life = d }
}
