// Package auth decides who somebody is and what he may see.
//
// A Verifier turns a JWT into an Identity; policy.go holds the one table of who may do
// what; an Authority keeps, on top of both, what changes while the process runs: single-use
// tickets, revocations, and the grants of the streams that are open, which end when
// their token does.
//
// Nothing here logs a token, and no error contains one.
package auth

import (
	"time"

	"attune/wire"
)

// Role is what the table of policy.go has a column for.
type Role uint8

// The roles. The zero Role may do nothing.
const (
	roleNone Role = iota
	// RoleExecution is a token that was given to one execution.
	RoleExecution
	// RoleUser is everybody with an access token.
	RoleUser
	// RoleAdmin has "admin" among its roles.
	RoleAdmin
	// RoleAnyone is everybody where authentication is off.
	RoleAnyone
	roles
)

// String names the role in error messages.
func (r Role) String() string {
	switch r {
	case RoleExecution:
		return "an execution token"
	case RoleUser:
		return "a user"
	case RoleAdmin:
		return "an admin"
	case RoleAnyone:
		return "anyone"
	case roleNone, roles:
	}
	return "nobody"
}

// Identity is who a token says its bearer is. It does not change: a refreshed token is
// another one.
type Identity struct {
	// User is the claim sub.
	User int64
	Role Role
	// Execution is the one that an execution token is for.
	Execution int64
	// Restricted says that the token lists what it may be used for, in Only.
	Restricted bool
	Only       []Pattern
	// TokenID is the claim jti, "" without one.
	TokenID string
	// Issued is the claim iat, zero without one.
	Issued time.Time
	// Expires is the claim exp; Ends, a leeway later, is when streams are closed. Both
	// are zero for RoleAnyone.
	Expires time.Time
	Ends    time.Time
}

// Anyone is the identity of everybody where authentication is off.
func Anyone() *Identity { return &Identity{Role: RoleAnyone} }

// Why access ends while a stream or a wait goes on.
var (
	// ErrExpired: the token's time is over.
	ErrExpired error = &wire.Error{Code: wire.CodeUnauthenticated, Message: "the token has expired: get a new one"}
	// ErrWithdrawn: the token, or all of its user's, was revoked.
	ErrWithdrawn error = &wire.Error{Code: wire.CodeUnauthenticated, Message: "the token was revoked: get a new one"}
)

// unauthenticated is an error that says why nobody was recognised.
func unauthenticated(message string, cause error) *wire.Error {
	return &wire.Error{Code: wire.CodeUnauthenticated, Message: message, Err: cause}
}
