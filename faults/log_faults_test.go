package faults_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/pg/live"
)

// The log is taken away and installed again: its sequence begins anew, below every
// cursor that was given. Everybody is told, and what is written then is delivered, also
// where it is read instead of announced.
func TestLog_Reinstalled(t *testing.T) {
	t.Parallel()
	s := newScene(t, sourceLog)
	s.noGaps = false
	s.serve(s.db.url)
	s.follow(s.server.url)
	s.db.commit(times(500, 2000), 10)
	fence := s.db.fence()
	for _, c := range s.clients {
		if !c.await(patience, func() bool { return c.fences[fence] }) {
			t.Errorf("client %s has not seen what is taken away later", c.record.Name)
		}
	}
	s.db.lost, _ = s.db.commits()
	s.fault(func() {
		s.db.connected(func(ctx context.Context, conn *pgx.Conn) error {
			if left, err := live.Uninstall(ctx, conn); err != nil || len(left) > 0 {
				return fmt.Errorf("uninstall: %v, left %v", err, left) //nolint:errorlint // only to be shown
			}
			return live.Install(ctx, conn)
		})
	})
	s.db.exec(`DELETE FROM faults.commits`)
	s.server.ready()
	s.allTold()
	for range times(2, 10) {
		s.db.bulk(300, 10)
		s.db.commit(20, 10)
	}
	s.finish()
}

// The log is pruned all the time. Who follows notices nothing; who comes back from
// before what is left is told.
func TestLog_Pruned(t *testing.T) {
	t.Parallel()
	s := newScene(t, sourceLog)
	s.noGaps = false
	s.serve(s.db.url, patientCanary, "ATTUNE_WINDOW_SIZE=100")
	s.follow(s.server.url)
	const kept = 1000 // what is written in some seconds: so far behind may a server be
	s.db.bulk(kept, 10)
	stop := s.db.load(4, 200)
	for range times(5, 50) {
		pass(200 * time.Millisecond)
		s.fault(func() { s.db.prune(kept) })
	}
	stop()
	if value[int](s.db, `SELECT count(*)::int FROM faults.pruned`) == 0 {
		t.Error("nothing was pruned: nothing is proved")
	}
	for _, c := range s.clients {
		if len(c.gaps()) > 0 {
			t.Errorf("client %s, which followed, was told of a gap", c.record.Name)
		}
	}
	s.fault(s.server.kill)
	s.db.commit(300, 10)
	s.fault(func() { s.db.prune(20) })
	s.server.start()
	s.server.ready()
	s.allTold()
	s.db.bulk(300, 10)
	s.finish()
}

// prune leaves the last rows of the log.
func (db *database) prune(rows int64) {
	db.t.Helper()
	db.connected(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := live.Prune(ctx, conn, live.Retention{MaxRows: rows})
		return err
	})
}

// connected does something on a connection of its own.
func (db *database) connected(do func(ctx context.Context, conn *pgx.Conn) error) {
	db.t.Helper()
	conn, err := db.connect(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	defer conn.Close(db.t.Context())
	if err := do(db.t.Context(), conn); err != nil {
		db.t.Fatal(err)
	}
}
