package auth

import (
	"encoding/json"
	"errors"
	"time"

	"attune/wire"
)

// maxRevocations bounds how many are remembered. One more, and the oldest is forgotten.
const maxRevocations = 100_000

// maxTokenID is the longest jti that can be revoked, in bytes.
const maxTokenID = 512

// Revocation withdraws one token, or all that a user was given up to a time.
type Revocation struct {
	// TokenID is the jti of the token; "" for a user's.
	TokenID string
	// User is whose tokens are withdrawn, those that were issued At or before.
	User int64
	At   time.Time
}

// errRevocation says what a revocation looks like.
var errRevocation = errors.New(`want {"revoke":{"jti":"…"}} or {"revoke":{"user":7}}`)

// ParseRevocation parses what stands in a NOTIFY on the control channel:
// {"revoke":{"jti":"…"}} or {"revoke":{"user":7}}, the latter received at the time now.
func ParseRevocation(payload string, now time.Time) (Revocation, error) {
	outer, err := wire.Object([]byte(payload))
	if err != nil {
		return Revocation{}, errRevocation
	}
	inner, err := wire.Object(outer["revoke"])
	if err != nil || len(outer) != 1 || len(inner) != 1 {
		return Revocation{}, errRevocation
	}
	r := Revocation{At: now}
	if user, ok := inner["user"]; ok {
		if r.User, err = wire.ParseInt(user); err != nil {
			return Revocation{}, errRevocation
		}
		return r, nil
	}
	if err := json.Unmarshal(inner["jti"], &r.TokenID); err != nil || r.TokenID == "" || len(r.TokenID) > maxTokenID {
		return Revocation{}, errRevocation
	}
	return r, nil
}

// revocations are what is withdrawn.
type revocations struct {
	tokens map[string]struct{}
	users  map[int64]time.Time
	order  []Revocation // the oldest first
}

func (r *revocations) add(v Revocation) {
	if r.tokens == nil {
		r.tokens, r.users = make(map[string]struct{}), make(map[int64]time.Time)
	}
	if v.TokenID != "" {
		if _, known := r.tokens[v.TokenID]; known {
			return
		}
		r.tokens[v.TokenID] = struct{}{}
	} else {
		if at, known := r.users[v.User]; known {
			if v.At.After(at) {
				r.users[v.User] = v.At
			}
			return
		}
		r.users[v.User] = v.At
	}
	r.order = append(r.order, v)
	if len(r.order) > maxRevocations {
		oldest := r.order[0]
		r.order = r.order[1:]
		if oldest.TokenID != "" {
			delete(r.tokens, oldest.TokenID)
		} else {
			delete(r.users, oldest.User)
		}
	}
}

// covers reports whether an identity's token is withdrawn. One that does not say when it
// was issued counts as an old one.
func (r *revocations) covers(id *Identity) bool {
	if _, ok := r.tokens[id.TokenID]; ok && id.TokenID != "" {
		return true
	}
	at, ok := r.users[id.User]
	return ok && !id.Issued.After(at)
}
