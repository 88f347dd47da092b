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
func (e *Entities) Get(ctx context.Context, entityType, id string) (wire.Entity, error) {
	for fresh := false; ; fresh = true {
		table, err := e.table(ctx, entityType, fresh)
		if err != nil {
			return wire.Entity{}, err
		}
		entity, err := table.Read(ctx, e.pool, id)
		if live.IsOutdated(err) && !fresh {
			continue // altered, renamed, dropped
		}
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == stateNoPrivilege {
			return wire.Entity{}, &wire.Error{
				Code: wire.CodeForbidden, Err: err,
				Message: fmt.Sprintf("the server's own role may not read %s: GRANT SELECT on it", table.Name()),
			}
		}
		return entity, err
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
