package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"attune/wire"
)

// What a ticket is.
const (
	// TicketLife is how long one may be used.
	TicketLife     = 30 * time.Second
	ticketBytes    = 32
	maxTickets     = 10_000 // that are not used yet
	maxUserTickets = 200    // of one user
)

// tickets are handed out and not used yet. What is kept is their hash: nobody who reads
// this process's memory can use one.
type tickets struct {
	mu     sync.Mutex
	open   map[[sha256.Size]byte]ticket
	byUser map[int64]int
}

type ticket struct {
	identity *Identity
	expires  time.Time
}

// issue makes a ticket for an identity.
func (t *tickets) issue(id *Identity, now time.Time) (text string, expires time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open, t.byUser = make(map[[sha256.Size]byte]ticket), make(map[int64]int)
	}
	if len(t.open) >= maxTickets || t.byUser[id.User] >= maxUserTickets {
		t.sweep(now)
	}
	switch {
	case t.byUser[id.User] >= maxUserTickets:
		return "", time.Time{}, &wire.Error{Code: wire.CodeOverCapacity, Message: "too many of your tickets are unused: use them, or wait 30 s"}
	case len(t.open) >= maxTickets:
		return "", time.Time{}, &wire.Error{Code: wire.CodeOverCapacity, Message: "too many tickets are unused: wait 30 s"}
	}
	secret := make([]byte, ticketBytes)
	_, _ = rand.Read(secret) // never fails
	text = base64.RawURLEncoding.EncodeToString(secret)
	expires = now.Add(TicketLife)
	t.open[sha256.Sum256([]byte(text))] = ticket{identity: id, expires: expires}
	t.byUser[id.User]++
	return text, expires, nil
}

// take uses a ticket up and returns whose it was; nil if there is none.
func (t *tickets) take(text string, now time.Time) *Identity {
	if len(text) != base64.RawURLEncoding.EncodedLen(ticketBytes) {
		return nil
	}
	key := sha256.Sum256([]byte(text))
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.open[key]
	if !ok {
		return nil
	}
	t.remove(key, found)
	if !now.Before(found.expires) {
		return nil
	}
	return found.identity
}

// sweep forgets what has expired.
func (t *tickets) sweep(now time.Time) {
	for key, found := range t.open {
		if !now.Before(found.expires) {
			t.remove(key, found)
		}
	}
}

func (t *tickets) remove(key [sha256.Size]byte, found ticket) {
	delete(t.open, key)
	if t.byUser[found.identity.User]--; t.byUser[found.identity.User] <= 0 {
		delete(t.byUser, found.identity.User)
	}
}
