package pgtest

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"attune/pg/live"
)

// Connect opens a connection to a database that is closed when tb ends. A cleanup may
// call it.
func Connect(tb testing.TB, database string) *pgx.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Announcements is Connect to a database that has the schema attune_live, for a session
// that every commit to its log is announced to from now on.
func Announcements(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn := Connect(tb, url)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "LISTEN "+live.Channel); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	if ok, err := live.RequestAnnouncements(ctx, conn); !ok {
		tb.Fatalf("pgtest: request announcements: %t, %v", ok, err)
	}
	return conn
}

// Role returns the URL of the database for a new role with few rights, made with options as
// CREATE ROLE takes them, which is dropped when tb ends.
func Role(tb testing.TB, database, options string) string {
	tb.Helper()
	role, password := "role_"+strings.ToLower(rand.Text()), rand.Text()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := run(ctx, database, "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"' "+options); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := run(ctx, database, "DROP ROLE "+role); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	u, err := url.Parse(database)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}
