package live

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Leftover is what stands in the schema and is not of this package.
type Leftover struct {
	// Kind is table, sequence, function and so on.
	Kind string
	// Name is the object's, with its arguments if it is a function.
	Name string
}

// String returns kind and name.
func (l Leftover) String() string { return l.Kind + " " + l.Name }

// UninstallSQL returns the script that takes back all that Install and Watch made, and
// what is in the schema besides: as long as that is there, the schema stays for it.
// The script is "" if there is nothing to take back.
func UninstallSQL(ctx context.Context, db DB) (string, []Leftover, error) {
	script, left, err := uninstallScript(ctx, db)
	if err != nil {
		return "", nil, fmt.Errorf("uninstall %s: %w", Schema, err)
	}
	return script, left, nil
}

// Uninstall takes back all that Install and Watch made: triggers, log and functions.
// It returns what is in the schema besides, in which case the schema stays too. A
// schema of somebody else's stays, and is itself what is returned.
func Uninstall(ctx context.Context, db DB) (left []Leftover, err error) {
	err = locked(ctx, db, func(tx DB) (script string, err error) {
		script, left, err = uninstallScript(ctx, tx)
		return script, err
	})
	if err != nil {
		return nil, fmt.Errorf("uninstall %s: %w", Schema, err)
	}
	return left, nil
}

func uninstallScript(ctx context.Context, db DB) (string, []Leftover, error) {
	var exists, owned bool
	err := db.QueryRow(ctx, `
		SELECT count(*) > 0, coalesce(bool_and(pg_has_role(nspowner, 'USAGE')), false)
		FROM pg_namespace WHERE nspname = 'attune_live'`).Scan(&exists, &owned)
	if err != nil || !exists {
		return "", nil, err
	}
	drops, err := dropTriggers(ctx, db, "")
	if err != nil {
		return "", nil, err
	}
	objects, left, err := contents(ctx, db)
	if err != nil {
		return "", nil, err
	}
	statements := slices.Concat(preamble(), drops, objects)
	switch {
	case !owned:
		left = append(left, Leftover{Kind: "schema", Name: Schema})
	case len(left) == 0:
		// Without CASCADE: it would take with it what has come since.
		statements = append(statements, "DROP SCHEMA attune_live")
	}
	if len(drops)+len(objects) == 0 && len(left) > 0 {
		return "", left, nil
	}
	return script(strings.Join(statements, ";\n") + ";\n"), left, nil
}

// contents returns the statements that drop what is ours in the schema, and the rest.
func contents(ctx context.Context, db DB) (drops []string, left []Leftover, err error) {
	rows, err := db.Query(ctx, contentsSQL)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var kind, name string
		var ours bool
		if err := rows.Scan(&kind, &name, &ours); err != nil {
			return nil, nil, err
		}
		if ours {
			// The names come quoted.
			drops = append(drops, "DROP "+strings.ToUpper(kind)+" IF EXISTS "+ident(Schema)+"."+name)
		} else {
			left = append(left, Leftover{Kind: kind, Name: Schema + "." + name})
		}
	}
	return drops, left, rows.Err()
}

// contentsSQL lists what is in the schema, and whether it is ours, in an order in
// which it can be dropped.
const contentsSQL = `
		WITH watches AS (
			SELECT p.oid FROM pg_proc p
			WHERE p.prorettype = 'trigger'::regtype AND p.proname ~ '^watch_[0-9]+(_[0-9]+)?_(created|changed|deleted)$'
		), ours AS (
			SELECT unnest(array['publish_outbox', 'revoked', 'truncated', 'notify', 'publish', 'await', 'lose']) AS name
		)
		SELECT kind, name, ours FROM (
			SELECT 1 AS place, 'table' AS kind, quote_ident(relname) AS name,
				relname IN ('outbox', 'notification_log', 'meta', 'revocation', 'watch') AS ours
			FROM pg_class WHERE relnamespace = to_regnamespace('attune_live') AND relkind IN ('r', 'p')
			UNION ALL
			SELECT 3, CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
				WHEN 'f' THEN 'foreign table' ELSE 'type' END, quote_ident(relname), relkind = 'S' AND relname IN ('seq', 'losses')
			FROM pg_class c WHERE relnamespace = to_regnamespace('attune_live') AND relkind IN ('S', 'v', 'm', 'f', 'c')
				AND NOT EXISTS (SELECT FROM pg_depend d -- of a serial column
					WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)
			UNION ALL
			SELECT 2, CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
				quote_ident(proname) || '(' || pg_get_function_identity_arguments(oid) || ')',
				proname IN (SELECT name FROM ours) OR oid IN (SELECT oid FROM watches)
			FROM pg_proc WHERE pronamespace = to_regnamespace('attune_live')
			UNION ALL
			SELECT 4, 'type', quote_ident(typname), false
			FROM pg_type WHERE typnamespace = to_regnamespace('attune_live') AND typtype IN ('d', 'e', 'r')
		) all_of_it ORDER BY place, kind, name`
