package http_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/pg/pgtest"
	"attune/runner"
)

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, pgtest.WithTemplate(func(ctx context.Context, url string) error {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		defer pool.Close()
		return errors.Join(pg.Migrate(ctx, pool, "attune"), runner.Migrate(ctx, pool))
	})))
}
