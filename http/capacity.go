package http

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"attune/wire"
)

// retryAfter is when a refused client may come back, in seconds.
const retryAfter = "5"

// capacity counts streams and long polls, in all, by address and by user. A limit of 0 is
// none.
type capacity struct {
	most, mostOfAddress, mostOfUser int

	mu        sync.Mutex
	open      int
	byAddress map[string]int
	byUser    map[int64]int
}

// enter counts a connection of address in, and of user if that is not nil, if there is
// room; leave counts it out.
func (c *capacity) enter(address string, user *int64) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.most > 0 && c.open >= c.most:
		return nil, &wire.Error{Code: wire.CodeOverCapacity, Message: fmt.Sprintf("%d connections are open, as many as this server takes", c.open)}
	case c.mostOfAddress > 0 && c.byAddress[address] >= c.mostOfAddress:
		return nil, &wire.Error{
			Code: wire.CodeOverCapacity, Message: fmt.Sprintf("%d connections are open from your address, as many as this server takes", c.mostOfAddress),
		}
	case c.mostOfUser > 0 && user != nil && c.byUser[*user] >= c.mostOfUser:
		return nil, &wire.Error{
			Code: wire.CodeOverCapacity, Message: fmt.Sprintf("%d of your connections are open, as many as this server takes of one user", c.mostOfUser),
		}
	}
	if c.byAddress == nil {
		c.byAddress, c.byUser = make(map[string]int), make(map[int64]int)
	}
	c.open++
	c.byAddress[address]++
	if user != nil {
		c.byUser[*user]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
		if c.byAddress[address]--; c.byAddress[address] == 0 {
			delete(c.byAddress, address)
		}
		if user == nil {
			return
		}
		if c.byUser[*user]--; c.byUser[*user] == 0 {
			delete(c.byUser, *user)
		}
	}, nil
}

// admit counts a stream or long poll in. It refuses when the server is full, and
// when it is on its way out: what is accepted is finished.
func (s *Server) admit(r *http.Request) (leave func(), err error) {
	if s.draining.Load() {
		return nil, errDraining()
	}
	return s.capacity.enter(s.clientAddress(r), identityOf(r).Creator())
}

func errDraining() *wire.Error {
	return &wire.Error{Code: wire.CodeNotReady, Message: "the server is shutting down"}
}

// whileOpen refuses what changes something once the server is on its way out.
func (s *Server) whileOpen(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			s.problem(w, r, errDraining())
			return
		}
		next(w, r)
	}
}

// sayGoodbye ends all streams that are open, one after the other over most of what
// being unready left of Drain, each at a moment of its own: their clients shall not come
// back all at once. The rest is for them to answer. At the end of ctx it does not wait
// any more.
func (s *Server) sayGoodbye(ctx context.Context) {
	open := s.open.all()
	begun := time.Now()
	for i, c := range open {
		turn := max(0, s.Drain-unreadyFor) * 4 / 5 / time.Duration(len(open))
		wait := time.Until(begun.Add(time.Duration(i)*turn + rand.N(turn+1))) //nolint:gosec // no secret
		if i > 0 && wait > 0 {                                                // the first goes at once: often it is the only one
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		c.end(errGoodbye)
	}
}
