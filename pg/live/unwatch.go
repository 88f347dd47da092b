package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// watched is a table that the schema knows as watched.
type watched struct {
	oid      uint32
	name     string // as it was when it was watched
	function string
}

// unwatchScript returns the statements that end the watch of a table.
func unwatchScript(ctx context.Context, db DB, table string) (string, error) {
	if err := checkOwner(ctx, db); err != nil {
		return "", err
	}
	w := watched{}
	// A table that was dropped is found by the name it had, however that is spelled, unless
	// there is another by now.
	err := db.QueryRow(ctx, `
		WITH dropped AS (
			SELECT w.relation, parse_ident(w.name) AS name FROM attune_live.watch w
			WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation)
		), found AS (
			SELECT to_regclass($1) AS relation, 0 AS place
			UNION ALL
			SELECT relation, coalesce(array_position(current_schemas(true)::text[], name[1]), 0) + 1
			FROM dropped, parse_ident($1) AS given
			WHERE given = name OR given = name[2:] AND name[1] = ANY (current_schemas(true)::text[])
		)
		SELECT w.relation::oid, w.name, w.function FROM found JOIN attune_live.watch w USING (relation)
		ORDER BY place, w.watched DESC LIMIT 1`, table,
	).Scan(&w.oid, &w.name, &w.function)
	switch {
	case isUndefined(err):
		return "", ErrNotInstalled
	case errors.Is(err, pgx.ErrNoRows):
		return "", ErrNotWatched
	case err != nil:
		return "", err
	}
	drops, err := dropTriggers(ctx, db, ` AND t.tgrelid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass))`, w.oid)
	if err != nil {
		return "", err
	}
	statements := slices.Concat(preamble(), []string{strings.TrimSuffix(ownerSQL, ";\n")}, drops, w.forget())
	return script(strings.Join(statements, ";\n") + ";\n"), nil
}

// preamble returns the statements that scripts on other people's tables begin with.
func preamble() []string {
	return []string{
		"SET LOCAL search_path = pg_catalog, pg_temp",
		"SET LOCAL client_min_messages = warning",
		"SET LOCAL lock_timeout = '5s'",
		lock,
	}
}

// dropTriggers returns the statements that drop our triggers, of all tables or of
// those that the condition selects. Those of partitions go with their table's.
func dropTriggers(ctx context.Context, db DB, condition string, args ...any) ([]string, error) {
	rows, err := db.Query(ctx, ourTriggers+condition+` AND t.tgparentid = 0 ORDER BY n.nspname, c.relname, t.tgname`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var name, function, schema, table string
		var enabled, inherited bool
		err := row.Scan(&name, &function, &enabled, &inherited, &schema, &table)
		return "DROP TRIGGER IF EXISTS " + ident(name) + " ON " + ident(schema, table), err
	})
}

// forget returns the statements that take back what there is in the schema for a table.
func (w watched) forget() []string {
	var statements []string
	for _, op := range operations() {
		statements = append(statements, "DROP FUNCTION IF EXISTS "+ident(Schema, w.function+"_"+op)+"()")
	}
	return append(statements, fmt.Sprintf("DELETE FROM attune_live.watch WHERE relation = %d", w.oid))
}
