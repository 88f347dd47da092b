package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxToken bounds a token, in bytes: far beyond what an issuer makes.
const maxToken = 16 << 10

// DefaultLeeway is how far clocks may be apart.
const DefaultLeeway = 5 * time.Second

// The algorithms that can be configured.
const (
	HS256 = "HS256"
	RS256 = "RS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// Algorithms lists them.
func Algorithms() []string { return []string{HS256, RS256, ES256, EdDSA} }

// Rules are what is asked of a token besides its signature.
type Rules struct {
	// Issuer and Audience must be those of the token, unless they are "".
	Issuer, Audience string
	// Leeway is how far clocks may be apart.
	Leeway time.Duration
}

// Keys finds the key that a token must be signed with.
type Keys interface {
	// Algorithm is the only one that is accepted.
	Algorithm() string
	// Key returns the key, or several of them in a jwt.VerificationKeySet.
	Key(ctx context.Context, token *jwt.Token) (any, error)
}

// Verifier tells who a token speaks of. Its methods may be called from several
// goroutines.
type Verifier struct {
	keys   Keys
	rules  Rules
	parser *jwt.Parser
}

// NewVerifier returns a Verifier of tokens that are signed with one of keys.
func NewVerifier(keys Keys, rules Rules) *Verifier {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{keys.Algorithm()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithLeeway(rules.Leeway),
	}
	if rules.Issuer != "" {
		options = append(options, jwt.WithIssuer(rules.Issuer))
	}
	if rules.Audience != "" {
		options = append(options, jwt.WithAudience(rules.Audience))
	}
	return &Verifier{keys: keys, rules: rules, parser: jwt.NewParser(options...)}
}

// Verify returns who a token speaks of. The error is a *wire.Error with
// CodeUnauthenticated that says what is wrong with it.
func (v *Verifier) Verify(ctx context.Context, token string) (*Identity, error) {
	if len(token) > maxToken {
		return nil, unauthenticated(fmt.Sprintf("the token is over %d bytes", maxToken), nil)
	}
	if strings.ContainsFunc(token, notInToken) { // the decoder would pass line breaks over: one token in many spellings
		return nil, unauthenticated(noJWT, nil)
	}
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // RFC 7515: who does not understand all of it must refuse
			return nil, errCritical
		}
		return v.keys.Key(ctx, t)
	})
	if err != nil {
		return nil, v.refusal(err, &c)
	}
	id, err := c.identity(v.rules.Leeway)
	if err != nil {
		return nil, unauthenticated("the token cannot be used here: "+err.Error(), err)
	}
	return id, nil
}

// notInToken reports whether r cannot be part of a token.
func notInToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

const noJWT = "the token is no JWT that this server can read"

// errCritical refuses a token that demands what this server does not know.
var errCritical = errors.New(`the header has "crit", of which nothing is understood here`)

// refusal says why a token was refused, without quoting what is in it.
func (v *Verifier) refusal(err error, c *claims) error {
	message := noJWT
	switch {
	case errors.Is(err, errCritical):
		message = "the token cannot be used here: " + errCritical.Error()
	case errors.Is(err, errNoKey):
		message = "the token names a key that this server does not know"
	case errors.Is(err, errKeysAway):
		message = "the token's key cannot be looked up now: try again"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		message = fmt.Sprintf("the token's signature is not one of ours: tokens are signed by %s with the key that this server was configured with", v.keys.Algorithm())
	case errors.Is(err, jwt.ErrTokenExpired):
		message = fmt.Sprintf("the token expired %s ago: get a new one", time.Since(c.expires.Time).Round(time.Second))
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		message = "the token is not valid yet: is the clock right?"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		message = "the token lacks a claim: exp is required" + v.required()
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		message = fmt.Sprintf("the token's iss is not %q", v.rules.Issuer)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		message = fmt.Sprintf("the token's aud does not name %q", v.rules.Audience)
	}
	return unauthenticated(message, err)
}

// required names the claims that are required besides exp.
func (v *Verifier) required() string {
	var b strings.Builder
	if v.rules.Issuer != "" {
		fmt.Fprintf(&b, ", iss %q", v.rules.Issuer)
	}
	if v.rules.Audience != "" {
		fmt.Fprintf(&b, ", aud %q", v.rules.Audience)
	}
	return b.String()
}
