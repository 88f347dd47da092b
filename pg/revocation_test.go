package pg_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"attune/broadcast"
	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
)

// control keeps what a Listener told it.
type control struct {
	mu       sync.Mutex
	opened   int
	payloads []string
}

// Channels implements pg.Control.
func (*control) Channels() []string { return []string{pg.ControlChannel} }

// Opened implements pg.Control.
func (c *control) Opened(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	return nil
}

// Receive implements pg.Control.
func (c *control) Receive(_ context.Context, _, payload string, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.payloads = append(c.payloads, payload)
}

func (c *control) heard() (opened int, payloads []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened, append([]string(nil), c.payloads...)
}

// What is revoked is told to those who listen, and kept where there is a place for it.
func TestRevoke(t *testing.T) {
	t.Parallel()
	for name, installed := range map[string]bool{"Listen": false, "Log": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			pool := connect(t, url)
			if installed {
				if err := live.Install(t.Context(), pool); err != nil {
					t.Fatal(err)
				}
			}
			hub := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
			c := &control{}
			listener := pg.NewListener(pg.ListenerConfig{URL: url, Pool: pool, Channels: []string{"some"}, Controls: []pg.Control{c}}, hub)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := listener.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			defer wg.Wait()
			defer cancel()
			<-listener.Live()

			before := time.Now().Add(-time.Hour)
			for _, r := range []pg.Revocation{{TokenID: new(`a"b`)}, {UserID: new(int64(-7))}} {
				kept, err := pg.Revoke(t.Context(), pool, r.TokenID, r.UserID)
				if err != nil || kept != installed {
					t.Errorf("%v, %v", kept, err)
				}
			}
			eventually(t, "both are heard", func() bool {
				_, payloads := c.heard()
				return len(payloads) == 2
			})
			opened, payloads := c.heard()
			if opened != 1 || payloads[0] != `{"revoke" : {"jti" : "a\"b"}}` || payloads[1] != `{"revoke" : {"user" : -7}}` {
				t.Errorf("%d, %q", opened, payloads)
			}
			if n := hub.Stats().Retained; n != 0 {
				t.Errorf("%d notifications for clients", n)
			}
			list, err := pg.Revocations(t.Context(), pool)
			if err != nil || (len(list) == 2) != installed {
				t.Fatalf("%v, %v", list, err)
			}
			if installed && (*list[0].TokenID != `a"b` || *list[1].UserID != -7 || list[1].Revoked.Before(before)) {
				t.Errorf("%+v", list)
			}
		})
	}
}
