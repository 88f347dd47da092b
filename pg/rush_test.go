package pg_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/pg/pgtest"
)

// In a rush PostgreSQL lets notifications gather, where it may; all arrive, in order and
// on the same connection.
func TestListener_Run_Rush(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, pool *pgxpool.Pool, url string) string{
		"Rests":       func(_ *testing.T, _ *pgxpool.Pool, url string) string { return url },
		"MayNotSleep": sleepless,
	}
	for name, role := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, sink := pgtest.Database(t), newRecorder()
			pool := connect(t, url)
			l := start(t, pg.ListenerConfig{URL: role(t, pool, url), Pool: pool}, sink)
			backend, sent := l.Stats().BackendPID, 0
			eventually(t, "PostgreSQL is told to rest", func() bool {
				const commits = 500
				exec(t, pool, fmt.Sprintf(`DO $$ BEGIN FOR i IN %d..%d LOOP
					PERFORM pg_notify('execution_created', format('{"entity_type":"execution","entity_id":%%s}', i)); COMMIT;
				END LOOP; END $$`, sent, sent+commits-1))
				sent += commits
				var told bool
				err := pool.QueryRow(t.Context(), `SELECT query LIKE '%notifications gather' FROM pg_stat_activity WHERE pid = $1`, backend).Scan(&told)
				return err == nil && told
			})
			notify(t, pool, sent)

			want := []string{"mode live"}
			for id := range sent + 1 {
				want = append(want, fmt.Sprintf("notification execution %d", id))
			}
			if diff := cmp.Diff(want, sink.await(t, 0, len(want))); diff != "" {
				t.Error(diff)
			}
			if s := l.Stats(); s.BackendPID != backend || s.Reconnects != 0 {
				t.Errorf("another connection: %+v", s)
			}
		})
	}
}

// sleepless returns the URL for a role that may not call pg_sleep.
func sleepless(t *testing.T, pool *pgxpool.Pool, database string) string {
	t.Helper()
	exec(t, pool, `REVOKE EXECUTE ON FUNCTION pg_sleep(double precision) FROM PUBLIC`)
	return pgtest.Role(t, database, "")
}
