package pg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg/live"
	"attune/wire"
)

// entityTableAge is how long it may take until a table that is watched otherwise is
// read otherwise.
const entityTableAge = 5 * time.Second

// Entities reads the rows of watched tables. Its methods may be called from several
// goroutines.
type Entities struct {
	pool *pgxpool.Pool

	mu     sync.Mutex
	tables map[string]entityTable // by entity type; what is not watched is not in it
}

// entityTable is what an entity type stood for a while ago.
type entityTable struct {
	table *live.EntityTable
	found time.Time
}

// NewEntities returns the entities of a database.
func NewEntities(pool *pgxpool.Pool) *Entities {
	return &Entities{pool: pool, tables: make(map[string]entityTable)}
}

// Get reads a row as notifications tell it; the Payload is nil where there is none.
// The error is a *wire.Error with CodeNotFound that says why, where no row could be
// looked for, and with CodeForbidden where this server may not read the table.
func (e *Entities) Get(ctx context.Context, entityType, id string) (entity wire.Entity, err error) {
	err = e.read(ctx, entityType, func(table *live.EntityTable) error {
		entity, err = table.Read(ctx, e.pool, id)
		return err
	})
	return entity, err
}

// GetMany reads rows of one entity type in one query, each as Get does. One that is not
// in the map could not be told: Get says why. Its errors are those of Get.
func (e *Entities) GetMany(ctx context.Context, entityType string, ids []string) (entities map[string]wire.Entity, err error) {
	err = e.read(ctx, entityType, func(table *live.EntityTable) error {
		entities, err = table.ReadMany(ctx, e.pool, ids)
		return err
	})
	return entities, err
}

// List reads the rows with the highest keys, those first, of those that are visibleTo's
// or nobody's; nil: of all. Its errors are those of Get.
func (e *Entities) List(ctx context.Context, entityType string, limit int, visibleTo *int64) (list wire.EntityList, err error) {
	err = e.read(ctx, entityType, func(table *live.EntityTable) error {
		list.Items, err = table.List(ctx, e.pool, limit+1, visibleTo) // one more tells whether there is more
		return err
	})
	if len(list.Items) > limit {
		list.Items, list.More = list.Items[:limit], true
	}
	return list, err
}

// Types returns the entity types of the tables that are watched, in order.
func (e *Entities) Types(ctx context.Context) ([]string, error) { return live.EntityTypes(ctx, e.pool) }

// read reads the table of an entity type; see Get for its errors.
func (e *Entities) read(ctx context.Context, entityType string, read func(*live.EntityTable) error) error {
	for fresh := false; ; fresh = true {
		table, err := e.table(ctx, entityType, fresh)
		if err != nil {
			return err
		}
		err = read(table)
		if live.IsOutdated(err) && !fresh {
			continue // altered, renamed, dropped
		}
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == stateNoPrivilege {
			return &wire.Error{
				Code: wire.CodeForbidden, Err: err,
				Message: fmt.Sprintf("the server's own role may not read %s: GRANT SELECT on it", table.Name()),
			}
		}
		return err
	}
}

// table finds the table of an entity type; with fresh, the one that it is now.
func (e *Entities) table(ctx context.Context, entityType string, fresh bool) (*live.EntityTable, error) {
	e.mu.Lock()
	known := e.tables[entityType]
	e.mu.Unlock()
	if !fresh && time.Since(known.found) < entityTableAge {
		return known.table, nil
	}
	now := time.Now()
	table, err := live.FindEntityTable(ctx, e.pool, entityType)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		delete(e.tables, entityType)
		if why, ok := errors.AsType[*live.EntityError](err); ok {
			err = &wire.Error{Code: wire.CodeNotFound, Message: why.Reason}
		}
		return nil, err
	}
	e.tables[entityType] = entityTable{table: table, found: now}
	return table, nil
}
