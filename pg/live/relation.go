package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// relation is what the catalog says of a table.
type relation struct {
	oid          uint32
	schema, name string
	kind         string   // pg_class.relkind
	persistence  string   // pg_class.relpersistence
	owner        string   // the role, as SQL writes it
	owned        bool     // we are that role, or a member of it
	partitions   []string // of all levels, quoted
	deferrable   bool     // some table has deferrable triggers that are not ours
	columns      []column
	triggers     []existing
	// function and digest are what the table was watched with; "" if it is not watched.
	function, digest string
	// dropped are tables of this name that were watched and are no more.
	dropped []watched
}

// column is a column of a table.
type column struct {
	name     string
	typeName string // as SQL writes it
	typeOID  uint32
	base     string // pg_type.typname, of a domain that of the type below
	enum     bool   // the type below is one
	builtin  bool   // the type below is PostgreSQL's own
	binary   bool   // its collation, if any, takes no two texts for equal
	notNull  bool
	inKey    bool // of the primary key
}

// existing is a trigger of ours on a table.
type existing struct {
	name, function string
	enabled        bool
	inherited      bool // from the table that this is a partition of
}

// lookUp reads what a table is. Installed must be what it is watched with.
func lookUp(ctx context.Context, db DB, table string) (*relation, error) {
	var installed bool
	if err := db.QueryRow(ctx, `SELECT to_regclass('attune_live.watch') IS NOT NULL`).Scan(&installed); err != nil {
		return nil, err
	}
	if !installed {
		return nil, ErrNotInstalled
	}
	if err := checkOwner(ctx, db); err != nil {
		return nil, err
	}
	r := &relation{}
	err := db.QueryRow(ctx, `
		SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
			quote_ident(pg_get_userbyid(c.relowner)), pg_has_role(c.relowner, 'USAGE'),
			ARRAY(SELECT format('%I.%I', pn.nspname, p.relname) FROM pg_partition_tree(c.oid) t
				JOIN pg_class p ON p.oid = t.relid JOIN pg_namespace pn ON pn.oid = p.relnamespace
				WHERE p.oid <> c.oid AND p.relkind IN ('r', 'p') ORDER BY 1),
			EXISTS (SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
				WHERE t.tgdeferrable AND f.pronamespace <> to_regnamespace('attune_live'))
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`, table,
	).Scan(&r.oid, &r.schema, &r.name, &r.kind, &r.persistence, &r.owner, &r.owned, &r.partitions, &r.deferrable)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errors.New(`there is no such table: write it as SQL does, schema.table, with "quotes" around odd names`)
	}
	if err != nil {
		return nil, err
	}
	if err := r.watchable(); err != nil {
		return nil, err
	}
	if err := r.readColumns(ctx, db); err != nil {
		return nil, err
	}
	if err := r.readTriggers(ctx, db); err != nil {
		return nil, err
	}
	for _, t := range r.triggers {
		if t.inherited {
			return nil, errors.New("it is a partition of a table that is watched, and watched with that")
		}
	}
	if err := r.readDropped(ctx, db); err != nil {
		return nil, err
	}
	return r, r.readWatch(ctx, db)
}

// watchable returns why a relation can not be watched.
func (r *relation) watchable() error {
	switch r.kind {
	case "r", "p":
	case "v", "m":
		return errors.New("it is a view: watch the tables that it is made of")
	case "f":
		return errors.New("it is a foreign table: watch it in its own database")
	default:
		return errors.New("it is not a table")
	}
	switch {
	case r.persistence == "t":
		return errors.New("it is a temporary table: want one that others can see")
	case r.schema == Schema, r.schema == "information_schema", strings.HasPrefix(r.schema, "pg_"):
		return fmt.Errorf("tables of schema %q can not be watched", r.schema)
	}
	return nil
}

func (r *relation) readColumns(ctx context.Context, db DB) error {
	rows, err := db.Query(ctx, `
		WITH RECURSIVE below AS (
			SELECT a.attnum, t.oid, t.typname, t.typbasetype, t.typnamespace, t.typtype
			FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
			WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
			UNION ALL
			SELECT b.attnum, t.oid, t.typname, t.typbasetype, t.typnamespace, t.typtype
			FROM below b JOIN pg_type t ON t.oid = b.typbasetype
		)
		SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.atttypid, b.typname::text, b.typtype = 'e',
			b.typnamespace = 'pg_catalog'::regnamespace,
			coalesce((SELECT collisdeterministic FROM pg_collation WHERE oid = a.attcollation), true), a.attnotnull, coalesce(a.attnum = ANY (i.indkey), false)
		FROM pg_attribute a
		JOIN below b ON b.attnum = a.attnum AND b.typbasetype = 0
		LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
		WHERE a.attrelid = $1 ORDER BY a.attnum`, r.oid)
	if err != nil {
		return err
	}
	r.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		return c, row.Scan(&c.name, &c.typeName, &c.typeOID, &c.base, &c.enum, &c.builtin, &c.binary, &c.notNull, &c.inKey)
	})
	return err
}

// ourTriggers selects the triggers that run a function of the schema, on tables
// outside of it.
const ourTriggers = `
	SELECT t.tgname::text, p.proname::text, t.tgenabled IN ('O', 'A'), t.tgparentid <> 0, n.nspname::text, c.relname::text
	FROM pg_trigger t
	JOIN pg_proc p ON p.oid = t.tgfoid
	JOIN pg_class c ON c.oid = t.tgrelid
	JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE p.pronamespace = to_regnamespace('attune_live') AND NOT t.tgisinternal AND n.nspname <> 'attune_live'`

func (r *relation) readTriggers(ctx context.Context, db DB) error {
	rows, err := db.Query(ctx, ourTriggers+` AND t.tgrelid = $1 ORDER BY t.tgname`, r.oid)
	if err != nil {
		return err
	}
	r.triggers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t existing, err error) {
		var schema, table string
		return t, row.Scan(&t.name, &t.function, &t.enabled, &t.inherited, &schema, &table)
	})
	return err
}

// readDropped finds what was left by tables that had the name before.
func (r *relation) readDropped(ctx context.Context, db DB) error {
	rows, err := db.Query(ctx, `
		SELECT w.relation::oid, w.name, w.function FROM attune_live.watch w
		WHERE w.name = $1 AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation)`, ident(r.schema, r.name))
	if err != nil {
		return err
	}
	r.dropped, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w watched, err error) {
		return w, row.Scan(&w.oid, &w.name, &w.function)
	})
	return err
}

// readWatch finds out what the table's functions are called, or may be called.
func (r *relation) readWatch(ctx context.Context, db DB) error {
	err := db.QueryRow(ctx, `SELECT function, digest FROM attune_live.watch WHERE relation::oid = $1`, r.oid).
		Scan(&r.function, &r.digest)
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	// After a restore, another table may have the number that the functions were named after.
	return db.QueryRow(ctx, `
		SELECT name FROM (SELECT 0 AS i, 'watch_' || $1::oid AS name
			UNION ALL SELECT i, 'watch_' || $1::oid || '_' || i FROM generate_series(1, 1000) i) names
		WHERE name NOT IN (SELECT function FROM attune_live.watch) ORDER BY i LIMIT 1`, r.oid).Scan(&r.function)
}

// key returns the column that identifies a row.
func (r *relation) key(name string) (column, error) {
	if name == "" {
		primary := slices.DeleteFunc(slices.Clone(r.columns), func(c column) bool { return !c.inKey })
		switch len(primary) {
		case 1:
			name = primary[0].name
		case 0:
			return column{}, errors.New("it has no primary key: name the column that identifies a row (key)")
		default:
			return column{}, fmt.Errorf("its primary key has %d columns (%s): name the one column that identifies a row (key)",
				len(primary), strings.Join(names(primary), ", "))
		}
	}
	c, err := r.column(name)
	switch {
	case err != nil:
		return column{}, err
	case !c.isInteger() && !c.isText() && !c.is("uuid"):
		return column{}, fmt.Errorf("key column %q is of type %s: want an integer, uuid, text or varchar", c.name, c.typeName)
	case !c.notNull:
		return column{}, fmt.Errorf("key column %q may be null: want one that is NOT NULL", c.name)
	}
	return c, nil
}

// column finds a column by name.
func (r *relation) column(name string) (column, error) {
	i := slices.IndexFunc(r.columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return column{}, fmt.Errorf("it has no column %q: it has %s", name, strings.Join(names(r.columns), ", "))
	}
	return r.columns[i], nil
}

// named finds columns by name.
func (r *relation) named(names []string) ([]column, error) {
	columns := make([]column, 0, len(names))
	for _, name := range names {
		c, err := r.column(name)
		if err != nil {
			return nil, err
		}
		columns = append(columns, c)
	}
	return columns, nil
}

func (c column) is(types ...string) bool { return c.builtin && slices.Contains(types, c.base) }

func (c column) isInteger() bool { return c.is("int2", "int4", "int8") }

func (c column) isText() bool { return c.is("text", "varchar") }

// exact reports whether values that are equal are printed the same.
func (c column) exact() bool {
	return c.binary && c.is("bool", "int2", "int4", "int8", "oid", "text", "varchar", "uuid", "date", "time",
		"timestamp", "timestamptz", "bytea")
}

// setting is a parameter that what a type is printed as depends on, and its value here.
type setting struct {
	name, value string
	// of reports whether the text of a type of PostgreSQL's own depends on it, by the
	// type's name, of an array that of its elements.
	of func(base string) bool
}

// settings returns all of them. Times and dates need no DateStyle in JSON, but ranges of
// them are printed.
func settings() []setting {
	has := func(parts ...string) func(string) bool {
		return func(base string) bool {
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(base, part) })
		}
	}
	is := func(names ...string) func(string) bool {
		return func(base string) bool { return slices.Contains(names, base) }
	}
	return []setting{
		{"TimeZone", "UTC", has("timestamptz", "timetz", "tstz")},
		{"DateStyle", "ISO, MDY", has("daterange", "datemultirange", "tsrange", "tsmultirange", "tstzrange", "tstzmultirange")},
		{"IntervalStyle", "postgres", is("interval")},
		{"extra_float_digits", "1", is("float4", "float8", "point", "line", "lseg", "box", "path", "polygon", "circle")},
		{"bytea_output", "hex", is("bytea")},
		{"lc_monetary", "C", is("money")},
		{"search_path", "pg_catalog, pg_temp", func(base string) bool { return strings.HasPrefix(base, "reg") }},
	}
}

// dependsOn reports whether the column's text does. Of types that are not PostgreSQL's
// own only that of enums is known not to.
func (c column) dependsOn(s setting) bool {
	if !c.builtin {
		return !c.enum
	}
	return s.of(strings.TrimPrefix(c.base, "_"))
}
