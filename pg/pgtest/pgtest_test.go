package pgtest_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"attune/pg/pgtest"
)

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, pgtest.WithTemplate(fill)))
}

func fill(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE TABLE note (body text)")
	return err
}

func TestDatabase(t *testing.T) {
	// The same body twice, at once: neither sees what the other writes.
	for _, name := range []string{"One", "Other"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, pgtest.Database(t))
			if _, err := conn.Exec(t.Context(), "INSERT INTO note VALUES ($1)", name); err != nil {
				t.Fatal(err)
			}
			var notes int
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM note").Scan(&notes); err != nil {
				t.Fatal(err)
			}
			if notes != 1 {
				t.Errorf("notes = %d, want 1", notes)
			}
		})
	}
}

// connect leaves the connection to the cleanup of Database where that comes
// first: it is dropped with it.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
