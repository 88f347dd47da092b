package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Migrate brings the tables of the job queue up to date, in a schema of their own
// that is created if need be. Doing it again changes nothing, and several processes
// may do it at once.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migrate(ctx, pool); err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, pool *pgxpool.Pool) (err error) {
	// Not one of the pool's: with a pool of one, the migration would wait for it.
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	// Closing gives up the lock, whatever happened.
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended('attune.migrate', 0))`); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	// Asked first: IF NOT EXISTS wants the right to create even where there is nothing
	// to do.
	var exists bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+schema)
	}
	if err != nil {
		return fmt.Errorf("create schema %q: %w", schema, err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
