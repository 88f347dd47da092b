package pg_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/pg"
	"attune/pg/pgtest"
)

// poolers are what can stand in front of PostgreSQL so that LISTEN is accepted but no
// notification arrives. Each returns the URL that leads through it.
func poolers() map[string]func(t *testing.T, url string) string {
	return map[string]func(t *testing.T, url string) string{
		"Muffled": func(t *testing.T, url string) string {
			t.Helper()
			p := pgtest.NewProxy(t, url)
			p.Muffle()
			return p.URL
		},
		"PgBouncer": pgtest.PgBouncer,
	}
}

func TestListener_Run_Pooler(t *testing.T) {
	for name, front := range poolers() {
		t.Run(name, func(t *testing.T) {
			direct := pgtest.Database(t)
			pooled := front(t, direct)
			pool := connect(t, pooled, pg.ThroughPooler())

			t.Run("InTheWay", func(t *testing.T) {
				cfg := pg.ListenerConfig{URL: pooled, Pool: pool, CanaryInterval: interval}
				began := time.Now()
				err := pg.NewListener(cfg, newRecorder()).Run(t.Context())
				checkRefusal(t, err, []string{"LISTEN was accepted", "transaction pooler", "ATTUNE_LISTEN_URL"}, direct)
				if took := time.Since(began); took > 2*interval {
					t.Errorf("found after %s, want at most %s", took, 2*interval)
				}
			})

			t.Run("WritersOnly", func(t *testing.T) {
				sink := newRecorder()
				start(t, pg.ListenerConfig{URL: direct, Pool: pool, CanaryInterval: interval}, sink)
				for id := range 3 {
					notify(t, pool, id)
				}
				want := []string{"mode live", "notification execution 0", "notification execution 1", "notification execution 2"}
				if diff := cmp.Diff(want, sink.await(t, 0, 4)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
