package pg

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"attune/pg/live"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the execution table and its types in the given schema up to date,
// creates the schema where it is missing, and has the log announce the executions
// (see live.ExecutionOptions). Doing it again changes nothing, and several processes
// may do it at once: one goes first, the others wait.
//
// A schema whose execution table is not Migrate's own work, a platform's above all,
// is left as it is. A schema attune_live of somebody else's is an error (see live.Install).
func Migrate(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	if err := migrate(ctx, pool.Config().ConnConfig, schema); err != nil {
		return fmt.Errorf("migrate schema %q: %w", schema, err)
	}
	return nil
}

func migrate(ctx context.Context, config *pgx.ConnConfig, schema string) (err error) {
	if schema == "" {
		return errors.New("the schema has no name")
	}
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	// Closing gives up the lock, whatever happened.
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()

	// One lock for all schemas: they share the schema of the version tables.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended('attune.migrate', 0))`); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	versions := versionTable(schema)
	foreign, err := isForeign(ctx, conn, schema, versions)
	if err != nil || foreign {
		return err
	}
	// Before anything is written there: the schema may be somebody else's.
	if err := live.Install(ctx, conn); err != nil {
		return err
	}
	if err := createSchema(ctx, conn, schema); err != nil {
		return err
	}

	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	store, err := database.NewStore(database.DialectPostgres, live.Schema+"."+versions)
	if err != nil {
		return err
	}
	db := openIn(config, schema)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider("", db, files, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err = provider.Up(ctx); err != nil {
		return err
	}
	return live.Watch(ctx, conn, pgx.Identifier{schema, executionTable}.Sanitize(), live.ExecutionOptions())
}

// isForeign reports whether the schema has an execution table that no migration of
// ours was recorded for.
func isForeign(ctx context.Context, conn *pgx.Conn, schema, versions string) (bool, error) {
	var foreign bool
	err := conn.QueryRow(ctx, `
		SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NULL`,
		pgx.Identifier{schema, executionTable}.Sanitize(),
		pgx.Identifier{live.Schema, versions}.Sanitize(),
	).Scan(&foreign)
	if err != nil {
		return false, fmt.Errorf("look for an execution table: %w", err)
	}
	return foreign, nil
}

// createSchema asks before it creates: IF NOT EXISTS wants the right to create even
// where there is nothing to do.
func createSchema(ctx context.Context, conn *pgx.Conn, name string) error {
	var exists bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, name).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create schema %q: %w", name, err)
	}
	return nil
}

// openIn opens a database whose unqualified names are those of one schema.
func openIn(config *pgx.ConnConfig, schema string) *sql.DB {
	set := "SET search_path = " + pgx.Identifier{schema}.Sanitize()
	return stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, set)
		return err
	}))
}

// versionTable names the table that records the migrations of one schema. goose does
// not quote it, so a schema whose name needs quotes, or is long, goes in as a hash.
func versionTable(schema string) string {
	if !regexp.MustCompile(`^[a-z0-9_]{1,48}$`).MatchString(schema) {
		sum := sha256.Sum256([]byte(schema))
		schema = "x" + hex.EncodeToString(sum[:16])
	}
	return "migration_" + schema
}
