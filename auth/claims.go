package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"attune/wire"
)

// claims are a token's. Names are compared exactly, which encoding/json would not do
// for a struct.
type claims struct {
	subject, tokenType, issuer, id string
	audience                       jwt.ClaimStrings
	expires, notBefore, issued     *jwt.NumericDate
	roles, filters                 []string
	restricted                     bool // there is a list of filters, it may be empty
	metadata                       struct {
		execution *int64
	}
}

// UnmarshalJSON decodes the claims that are understood; others are passed over.
func (c *claims) UnmarshalJSON(b []byte) error {
	members, err := wire.Object(b)
	if err != nil {
		return err
	}
	metadata := map[string]json.RawMessage{}
	for name, into := range map[string]any{
		"sub": &c.subject, "token_type": &c.tokenType, "iss": &c.issuer, "jti": &c.id, "aud": &c.audience,
		"exp": &c.expires, "nbf": &c.notBefore, "iat": &c.issued, "roles": &c.roles, "attune_filters": &c.filters, "metadata": &metadata,
	} {
		value, ok := members[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(value, into); err != nil {
			return fmt.Errorf("claim %s: %w", name, err)
		}
	}
	_, c.restricted = members["attune_filters"]
	if value, ok := metadata["execution_id"]; ok {
		execution, err := wire.ParseInt(value)
		if err != nil {
			return fmt.Errorf("claim metadata.execution_id: %w", err)
		}
		c.metadata.execution = &execution
	}
	return nil
}

// GetExpirationTime implements jwt.Claims, as the others do.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires, nil }

// GetIssuedAt returns the claim iat.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.issued, nil }

// GetNotBefore returns the claim nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return c.notBefore, nil }

// GetIssuer returns the claim iss.
func (c *claims) GetIssuer() (string, error) { return c.issuer, nil }

// GetSubject returns the claim sub.
func (c *claims) GetSubject() (string, error) { return c.subject, nil }

// GetAudience returns the claim aud.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.audience, nil }

// errNoExecution refuses an execution token that is for none.
var errNoExecution = errors.New("token_type execution: metadata.execution_id is missing")

// identity returns who the claims speak of.
func (c *claims) identity(leeway time.Duration) (*Identity, error) {
	user, err := strconv.ParseInt(c.subject, 10, 64)
	if err != nil || strconv.FormatInt(user, 10) != c.subject {
		return nil, errors.New("sub: want the identity's id, an integer of 64 bits in decimal, as a string")
	}
	id := &Identity{
		User: user, Role: RoleUser, TokenID: c.id, Restricted: c.restricted,
		Expires: c.expires.Time, Ends: c.expires.Add(leeway),
	}
	if c.issued != nil {
		id.Issued = c.issued.Time
	}
	switch c.tokenType {
	case "", "access":
		if slices.Contains(c.roles, "admin") {
			id.Role = RoleAdmin
		}
	case "execution":
		// Whatever roles the user has: it was given to one execution.
		if c.metadata.execution == nil {
			return nil, errNoExecution
		}
		id.Role, id.Execution = RoleExecution, *c.metadata.execution
	default:
		return nil, fmt.Errorf("token_type %.40q: want access or execution", c.tokenType)
	}
	if len(c.filters) > maxPatterns {
		return nil, fmt.Errorf("attune_filters: %d filters, at most %d are accepted", len(c.filters), maxPatterns)
	}
	for _, text := range c.filters {
		p, err := ParsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("attune_filters: %w", err)
		}
		id.Only = append(id.Only, p)
	}
	return id, nil
}
