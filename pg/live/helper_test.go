package live_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg/live"
	"attune/pg/pgtest"
)

// wait bounds whatever a test waits for.
const wait = 30 * time.Second

// installed returns a pool on a fresh database with the schema.
func installed(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := fresh(t)
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return pool
}

// fresh returns a pool on a fresh database.
func fresh(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return open(t, pgtest.Database(t))
}

// newRole creates a role that is no superuser and has no rights yet, and returns its
// name. It goes with all that it has when t ends.
func newRole(t *testing.T, pool *pgxpool.Pool, name string) string {
	t.Helper()
	role := pool.Config().ConnConfig.Database + "_" + name
	exec(t, pool, `CREATE ROLE `+role+` LOGIN PASSWORD 'pw-of-a-role'`)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, sql := range []string{`DROP OWNED BY ` + role + ` CASCADE`, `DROP ROLE ` + role} {
			if _, err := pool.Exec(ctx, sql); err != nil {
				t.Error(err)
			}
		}
	})
	return role
}

// as returns a pool for a role of newRole.
func as(t *testing.T, pool *pgxpool.Pool, role string) *pgxpool.Pool {
	t.Helper()
	u, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "pw-of-a-role")
	return open(t, u.String())
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 40
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// exec runs statements, each in its own transaction.
func exec(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// queryOne reads a row of one column.
func queryOne[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// listener receives announcements on a connection of its own.
type listener struct {
	t    *testing.T
	conn *pgx.Conn
}

func listen(t *testing.T, pool *pgxpool.Pool) *listener {
	t.Helper()
	return &listener{t: t, conn: pgtest.Announcements(t, pool.Config().ConnString())}
}

// raw returns the payload of the next announcement.
func (l *listener) raw() string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), wait)
	defer cancel()
	n, err := l.conn.WaitForNotification(ctx)
	if err != nil {
		l.t.Fatalf("wait for an announcement: %v", err)
	}
	return n.Payload
}

// next returns the next announcement.
func (l *listener) next() live.Announcement {
	l.t.Helper()
	a, err := live.ParseAnnouncement(l.raw())
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// waitFor returns when a query returns true.
func waitFor(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	for deadline := time.Now().Add(wait); !queryOne[bool](t, pool, sql); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", wait, sql)
		}
	}
}
