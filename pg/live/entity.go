package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"attune/wire"
)

// EntityError says why rows of an entity type can not be read, and what to do.
type EntityError struct{ Reason string }

// Error returns the reason.
func (e *EntityError) Error() string { return e.Reason }

// EntityTable reads the rows of a watched table.
type EntityTable struct {
	name       string
	entityType string
	oid        uint32
	types      string // those of its columns
	keyType    string // bigint, text or uuid
	one        string // the query for a row by its key
	many       string // the query for those with any of some keys
	newest     string // the query for those with the highest keys
}

// errOutdated says that the table is not the one that was found, or has other columns.
var errOutdated = errors.New("the table is not as it was found")

// typesSQL describes the columns of a table.
const typesSQL = `SELECT string_agg(attname || ' ' || atttypid, ', ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`

// EntityTypes returns the entity types of the tables that are watched, in order.
func EntityTypes(ctx context.Context, db DB) ([]string, error) {
	rows, err := db.Query(ctx, `
		SELECT DISTINCT w.options ->> 'entity_type' FROM attune_live.watch w JOIN pg_class c ON c.oid = w.relation ORDER BY 1`)
	if err == nil {
		var types []string
		if types, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return types, nil
		}
	}
	if isUndefined(err) {
		return nil, nil // nothing is watched where there is no log
	}
	return nil, fmt.Errorf("read the entity types that are watched: %w", err)
}

// FindEntityTable returns the table that is watched as the entity type, or an
// *EntityError.
func FindEntityTable(ctx context.Context, db DB, entityType string) (*EntityTable, error) {
	t, err := findEntityTable(ctx, db, entityType)
	if isUndefined(err) {
		err = &EntityError{"the database has no notification log, so no table is watched: see attune db install and attune db watch"}
	}
	if err != nil {
		return nil, fmt.Errorf("find the table of entity type %q: %w", entityType, err)
	}
	return t, nil
}

func findEntityTable(ctx context.Context, db DB, entityType string) (*EntityTable, error) {
	rows, err := db.Query(ctx, `
		SELECT w.name, w.options, coalesce(c.oid, 0), coalesce(n.nspname::text, ''), coalesce(c.relname::text, ''), coalesce(c.relkind::text, '')
		FROM attune_live.watch w
		LEFT JOIN pg_class c ON c.oid = w.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE w.options ->> 'entity_type' = $1 ORDER BY w.name`, entityType)
	if err != nil {
		return nil, err
	}
	type watch struct {
		was     string // the table's name when it was watched
		options []byte
		relation
	}
	watches, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w watch, err error) {
		return w, row.Scan(&w.was, &w.options, &w.oid, &w.schema, &w.name, &w.kind)
	})
	if err != nil {
		return nil, err
	}
	there := slices.DeleteFunc(slices.Clone(watches), func(w watch) bool { return w.oid == 0 })
	switch {
	case len(watches) == 0:
		return nil, &EntityError{fmt.Sprintf("entity type %q is not watched: attune db watch TABLE watches a table, attune db status lists those that are", entityType)}
	case len(there) == 0:
		return nil, &EntityError{fmt.Sprintf("the table %s, which was watched as %q, was dropped", watches[0].was, entityType)}
	case len(there) > 1:
		return nil, &EntityError{fmt.Sprintf("entity type %q is not one table: %s and %s are watched as it; attune db watch --entity-type tells them apart",
			entityType, ident(there[0].schema, there[0].name), ident(there[1].schema, there[1].name))}
	}
	w := there[0]
	var o WatchOptions
	if err := json.Unmarshal(w.options, &o); err != nil {
		return nil, err
	}
	var types string
	if err := db.QueryRow(ctx, typesSQL, w.oid).Scan(&types); err != nil {
		return nil, err
	}
	if err := w.readColumns(ctx, db); err != nil {
		return nil, err
	}
	cs, err := w.choose(o)
	if err != nil {
		return nil, &EntityError{fmt.Sprintf("%s is not as it was when it was watched: %v", ident(w.schema, w.name), err)}
	}
	t := &EntityTable{name: ident(w.schema, w.name), entityType: entityType, oid: w.oid, types: types}
	t.prepare(&w.relation, cs, o)
	return t, nil
}

// prepare sets the queries for one row, for many and for the newest: key, user and
// payload, this by the expression of the triggers. Names in them mean what they should in
// the search path that read sets.
func (t *EntityTable) prepare(r *relation, cs columns, o WatchOptions) {
	row := trigger{Row: "e", User: "NULL::bigint"}
	if cs.user != nil {
		row.User = row.Row + "." + ident(cs.user.name) + "::bigint"
	}
	members := slices.DeleteFunc(cs.members(row, o), func(m member) bool {
		return m == member{literal("op"), literal(row.op)} // a row is no change
	})
	// Triggers see the rows of partitions, not those of tables that inherit.
	from := "ONLY " + ident(r.schema, r.name)
	if r.kind == "p" {
		from = ident(r.schema, r.name)
	}
	t.keyType = cs.key.base
	switch {
	case cs.key.isInteger():
		t.keyType = "bigint"
	case cs.key.isText():
		t.keyType = "text"
	}
	key := row.Row + "." + ident(cs.key.name)
	all := "SELECT " + key + "::text, " + row.User + ", " + object(members) + "\nFROM " + from + " AS " + row.Row
	t.one = all + "\nWHERE " + key + " = $1::text::" + t.keyType + " LIMIT 1"
	t.many = all + "\nWHERE " + key + " = ANY ($1::text[]::" + t.keyType + "[])"
	t.newest = all + "\nWHERE $2::bigint IS NULL OR " + row.User + " IS NULL OR " + row.User + " = $2 ORDER BY " + key + " DESC LIMIT $1"
}

// Name returns the table's name as SQL writes it.
func (t *EntityTable) Name() string { return t.name }

// Read reads the row with that key, written as filters write it, as notifications tell
// it. Where there is none, also because the key's type has no such value, the Payload
// is nil.
func (t *EntityTable) Read(ctx context.Context, db DB, id string) (wire.Entity, error) {
	key, err := wire.TextID(id)
	if err != nil {
		return wire.Entity{}, err
	}
	none := wire.Entity{EntityType: t.entityType, EntityID: key}
	var (
		found   string
		user    *int64
		payload string
	)
	err = t.read(ctx, db, func(tx pgx.Tx) error { return tx.QueryRow(ctx, t.one, id).Scan(&found, &user, &payload) })
	server, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, pgx.ErrNoRows), refused && (server.Code == "22P02" || server.Code == "22003"):
		return none, nil
	case err != nil:
		return wire.Entity{}, fmt.Errorf("read a row of %s: %w", t.name, err)
	case found != id: // another spelling, of which no notification tells
		return none, nil
	}
	return t.entity(found, user, payload)
}

// ReadMany reads the rows with those keys in one query, each as Read does. One that can
// not be told as a notification is not in the map, and keeps no other out: Read says why.
func (t *EntityTable) ReadMany(ctx context.Context, db DB, ids []string) (map[string]wire.Entity, error) {
	found := make(map[string]wire.Entity, len(ids))
	possible := make([]string, 0, len(ids))
	for _, id := range ids {
		key, err := wire.TextID(id)
		if err != nil {
			return nil, err
		}
		found[id] = wire.Entity{EntityType: t.entityType, EntityID: key}
		if t.isKey(id) {
			possible = append(possible, id)
		}
	}
	err := t.read(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, t.many, possible)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				key     string
				user    *int64
				payload string
			)
			if err := rows.Scan(&key, &user, &payload); err != nil {
				return err
			}
			if none, asked := found[key]; !asked || none.Payload != nil {
				continue // another spelling, or a key that is not unique
			}
			if entity, err := t.entity(key, user, payload); err == nil {
				found[key] = entity
			} else {
				delete(found, key)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read %d rows of %s: %w", len(ids), t.name, err)
	}
	return found, nil
}

// isKey reports whether the key's type has a value that is printed so. One id that it can
// not have would fail a query for many.
func (t *EntityTable) isKey(id string) bool {
	switch t.keyType {
	case "bigint":
		n, err := strconv.ParseInt(id, 10, 64)
		return err == nil && strconv.FormatInt(n, 10) == id
	case "uuid":
		var u pgtype.UUID
		return u.Scan(id) == nil && u.String() == id
	}
	return true
}

// List reads the rows with the highest keys, those first, of those that are visibleTo's
// or nobody's; nil: of all. A row whose key no notification could tell is left out.
func (t *EntityTable) List(ctx context.Context, db DB, limit int, visibleTo *int64) ([]wire.Entity, error) {
	var list []wire.Entity
	err := t.read(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, t.newest, limit, visibleTo)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (wire.Entity, error) {
			var (
				key     string
				user    *int64
				payload string
			)
			if err := row.Scan(&key, &user, &payload); err != nil {
				return wire.Entity{}, err
			}
			entity, err := t.entity(key, user, payload)
			if err != nil {
				return wire.Entity{}, nil //nolint:nilerr // left out below
			}
			return entity, nil
		})
		list = slices.DeleteFunc(list, func(entity wire.Entity) bool { return entity.Payload == nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rows of %s: %w", t.name, err)
	}
	return list, nil
}

// read runs a query as the triggers run: with no function of somebody else's, and the
// same settings. To convert a column that has another type than it had, a function of
// anybody's could run; so the table is held as it was found, or it is outdated.
func (t *EntityTable) read(ctx context.Context, db DB, query func(tx pgx.Tx) error) error {
	settled := []string{`set_config('transaction_read_only', 'on', true)`}
	for _, s := range settings() {
		settled = append(settled, fmt.Sprintf(`set_config(%s, %s, true)`, literal(s.name), literal(s.value)))
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`SELECT ` + strings.Join(settled, `, `))
		batch.Queue(`SELECT FROM ` + t.name + ` LIMIT 0`) // locks it; LOCK TABLE wants the right to read all columns
		same := false
		batch.Queue(`SELECT to_regclass($2)::oid = $1 AND coalesce((`+typesSQL+`), '') = $3`, t.oid, t.name, t.types).
			QueryRow(func(row pgx.Row) error { return row.Scan(&same) })
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if !same {
			return errOutdated
		}
		return query(tx)
	})
}

// entity makes a row of what was read.
func (t *EntityTable) entity(key string, user *int64, payload string) (wire.Entity, error) {
	n, err := Decode("read", t.entityType, key, user, payload)
	if err != nil {
		return wire.Entity{}, fmt.Errorf("read a row of %s: %w", t.name, err)
	}
	return wire.Entity{EntityType: n.EntityType, EntityID: n.EntityID, UserID: n.UserID, Payload: n.Payload}, nil
}

// IsOutdated reports whether a read failed because the table is no longer as it was
// when it was found.
func IsOutdated(err error) bool {
	server, refused := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, errOutdated) || refused && strings.HasPrefix(server.Code, "42") && server.Code != "42501" || refused && server.Code == "3F000"
}
