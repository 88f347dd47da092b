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
	// A table that was dropped is found by the name it had.
	err := db.QueryRow(ctx, `
		SELECT w.relation::oid, w.name, w.function FROM attune_live.watch w
		WHERE w.relation = to_regclass($1)
			OR w.name = $1 AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation)`, table,
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
	statements := slices.Concat(preamble(), []string{strings.TrimSuffix(ownerSQL, ";\n")}, drops, w.dropFunctions(), []string{
		fmt.Sprintf("DELETE FROM attune_live.watch WHERE relation = %d", w.oid),
	})
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

func (w watched) dropFunctions() []string {
	var drops []string
	for _, op := range operations() {
		drops = append(drops, "DROP FUNCTION IF EXISTS "+ident(Schema, w.function+"_"+op)+"()")
	}
	return drops
}
