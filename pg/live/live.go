// Package live is the schema attune_live in a PostgreSQL database: the log of
// notifications, the functions that write it, and the triggers that watch tables.
//
// The log, attune_live.notification_log, holds one row a notification. Its seq is
// in commit order: whoever sees the row with seq N sees every row below N that will
// ever be there. Numbers that are missing belong to transactions that were rolled
// back.
//
// Every row is announced by a NOTIFY on Channel, in the order of seq, as long as
// somebody has asked for that with RequestAnnouncements. The payload is text, its
// fields separated by newlines:
//
//	seq
//	entity_type
//	entity_id
//	user_id, or nothing
//	channel
//	the payload, JSON that may contain newlines itself
//
// or, when that is 8000 bytes or more, seq alone: the row is in the log, for whoever
// receives the announcement. ParseAnnouncement reads both, and a third form: "lost".
//
// Nothing here fails a writer's transaction. What could not be logged is a loss: the
// writer gets a WARNING, the sequence attune_live.losses counts it at once and for good,
// and "lost" is announced at its place in the order. Whoever keeps cursors makes the
// count part of them, so that every cursor from before a loss gets a gap.
//
// A loss is what the log, its functions or its sequences could not take because they
// are damaged or full; a row of a watched table whose key is no entity id (1 to 128
// characters of [A-Za-z0-9_.-]) or whose columns were altered; arguments of notify()
// that are none; and TRUNCATE of a watched table, which tells of no row. It is counted
// even where the transaction is rolled back then.
package live

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// Schema is the schema of what is ours alone.
	Schema = "attune_live"
	// Channel is the PostgreSQL channel of announcements.
	Channel = "attune_live"
)

// ErrNotInstalled says that the database has no schema attune_live, or that of
// another program.
var ErrNotInstalled = errors.New("the schema " + Schema + " is not installed")

var (
	//go:embed sql/schema.sql
	schemaSQL string
	//go:embed sql/owner.sql
	ownerSQL string
	//go:embed sql/install.sql
	installSQL string
)

// DB is what the operations need of a database: a connection, a pool or a
// transaction of pgx.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// InstallSQL returns the script that Install runs.
func InstallSQL() string { return script(schemaSQL + ownerSQL + "\n" + installSQL) }

// Install creates the schema, or brings it up to date. Doing it again changes
// nothing, and several processes may do it at once. A schema of somebody else's is
// left as it is: what he may have put there would run with our rights.
func Install(ctx context.Context, db DB) error {
	err := locked(ctx, db, func(tx DB) (string, error) { return InstallSQL(), checkOwner(ctx, tx) })
	if err != nil {
		return fmt.Errorf("install %s: %w", Schema, err)
	}
	return nil
}

// checkOwner returns whose the schema is if we must not run what is in it. The scripts
// look again: others may run them by hand.
func checkOwner(ctx context.Context, db DB) error {
	_, err := db.Exec(ctx, ownerSQL)
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == "42501" {
		return errors.New(server.Message)
	}
	return err
}

// begin and commit enclose every script, and each begins by waiting for the others.
const (
	begin  = "BEGIN;\n\n"
	commit = "\nCOMMIT;\n"
	lock   = "SELECT pg_advisory_xact_lock(hashtextextended('attune_live.install', 0))"
)

// script makes one transaction of statements.
func script(statements string) string { return begin + statements + commit }

// locked writes a script and executes it, in one transaction in which nobody else
// changes the schema: what was read for it is still so. An empty script is fine. The
// transaction is begun and committed by pgx, so that an error leaves the connection
// usable.
func locked(ctx context.Context, db DB, write func(DB) (string, error)) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lock); err != nil {
			return err
		}
		script, err := write(tx)
		if err != nil || script == "" {
			return err
		}
		statements := strings.TrimSuffix(strings.TrimPrefix(script, begin), commit)
		// The simple protocol takes several statements at once.
		_, err = tx.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}
