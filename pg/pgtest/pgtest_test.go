package pgtest_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
			conn := pgtest.Connect(t, pgtest.Database(t))
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

func TestDatabase_IsDropped(t *testing.T) {
	t.Parallel()
	parent := t
	var url string
	t.Run("Use", func(t *testing.T) {
		url = pgtest.Database(t)
		// Closed only after the test it is dropped by: it does not keep it.
		open, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		parent.Cleanup(func() { open.Close(context.Background()) })
	})
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		conn.Close(context.Background())
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "3D000" {
		t.Errorf("connect = %v, want that the database does not exist", err)
	}
}

func TestServer_IsItsOwn(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, cfg := pgtest.Server(t)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Connect(t, url) // the shared one goes on

	again := pgtest.Start(t, cfg)
	pgtest.Connect(t, again.URL())
}
