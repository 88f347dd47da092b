package auth

import (
	"crypto/rand"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Minting says what a token shall say.
type Minting struct {
	User      int64
	Admin     bool
	Execution *int64   // for an execution token
	Filters   []string // nil: no attune_filters
	Life      time.Duration
	Issuer    string
	Audience  string
}

// Mint makes a token, signed by HS256. It refuses secrets that could be guessed, and
// filters that no server would accept.
func Mint(secret string, m Minting) (string, error) {
	if err := CheckSecret(secret); err != nil {
		return "", err
	}
	for _, text := range m.Filters {
		if _, err := ParsePattern(text); err != nil {
			return "", err
		}
	}
	now := time.Now()
	claims := jwt.MapClaims{
		"sub": strconv.FormatInt(m.User, 10), "iat": now.Unix(), "exp": now.Add(m.Life).Unix(),
		"jti": rand.Text(), "token_type": "access",
	}
	if m.Admin {
		claims["roles"] = []string{"admin"}
	}
	if m.Execution != nil {
		claims["token_type"], claims["scope"] = "execution", "execution"
		claims["metadata"] = map[string]int64{"execution_id": *m.Execution}
	}
	if m.Filters != nil {
		claims["attune_filters"] = m.Filters
	}
	if m.Issuer != "" {
		claims["iss"] = m.Issuer
	}
	if m.Audience != "" {
		claims["aud"] = m.Audience
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
}
