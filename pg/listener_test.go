package pg_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/pg"
	"attune/pg/pgtest"
)

func TestListener_Run(t *testing.T) {
	t.Run("Delivers", func(t *testing.T) {
		url := pgtest.Database(t)
		pool, sink := connect(t, url), newRecorder()
		start(t, pg.ListenerConfig{URL: url, Pool: pool}, sink)
		for id := range 3 {
			notify(t, pool, id)
		}
		want := []string{"mode live", "notification execution 0", "notification execution 1", "notification execution 2"}
		if diff := cmp.Diff(want, sink.await(t, 0, 4)); diff != "" {
			t.Error(diff)
		}
	})
}
