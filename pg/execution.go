package pg

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
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/wire"
)

// ErrNoExecutions says that the database has no execution table that could be read.
var ErrNoExecutions = errors.New("no execution table")

// executionTable is the table's name, on every platform.
const executionTable = "execution"

// executionColumns are those that are read, in the order of scanExecution. A
// platform's table has others, and what is in them (env_vars) is not ours to show.
const executionColumns = "id, action_ref, config, parent, executor, status::text, result, started_at, created, updated"

// briefColumns are the same without what may be large.
const briefColumns = "id, action_ref, NULL::jsonb, parent, executor, status::text, NULL::jsonb, started_at, created, updated"

// Querier is what reads one row: a pool, a connection or a transaction.
type Querier = interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Executions reads and writes the execution table, a platform's or our own. Its
// methods may be called from several goroutines.
type Executions struct {
	pool  *pgxpool.Pool
	table string // qualified and quoted
	// statusType is the enum of the column status, qualified and quoted; "" if it is no
	// enum. labels are its labels as they were at the start.
	statusType string
	labels     []string
}

// OpenExecutions finds the execution table: in the given schema, else along the
// search path. The error wraps ErrNoExecutions when there is none, or when the one
// found lacks a column that is needed.
func OpenExecutions(ctx context.Context, pool *pgxpool.Pool, schema string) (*Executions, error) {
	e := &Executions{pool: pool}
	var oid uint32
	var found, name string
	err := pool.QueryRow(ctx, `
		SELECT c.oid, n.nspname, c.relname
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = coalesce(to_regclass($1), to_regclass($2)) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`,
		pgx.Identifier{schema, executionTable}.Sanitize(), executionTable,
	).Scan(&oid, &found, &name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%w in schema %q or along the search path", ErrNoExecutions, schema)
	}
	if err != nil {
		return nil, fmt.Errorf("look for the execution table: %w", err)
	}
	e.table = pgx.Identifier{found, name}.Sanitize()

	var missing []string
	err = pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(want), '{}') FROM unnest($2::text[]) want
		WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1 AND attname = want AND NOT attisdropped)`,
		oid, strings.Split(strings.ReplaceAll(executionColumns, "::text", ""), ", "),
	).Scan(&missing)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", e.table, err)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: %s has no column %s", ErrNoExecutions, e.table, strings.Join(missing, ", "))
	}

	var typeSchema, typeName string
	err = pool.QueryRow(ctx, `
		SELECT n.nspname, t.typname, array(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid)
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
		WHERE a.attrelid = $1 AND a.attname = 'status'`, oid,
	).Scan(&typeSchema, &typeName, &e.labels)
	if err != nil {
		return nil, fmt.Errorf("read the type of %s.status: %w", e.table, err)
	}
	if len(e.labels) > 0 {
		e.statusType = pgx.Identifier{typeSchema, typeName}.Sanitize()
	}
	return e, nil
}

// Table returns the table's name, qualified and quoted.
func (e *Executions) Table() string { return e.table }

// Get reads one execution. If there is none with that id it returns a *wire.Error
// with CodeNotFound.
func (e *Executions) Get(ctx context.Context, id int64) (wire.Execution, error) {
	return e.get(ctx, e.pool, id)
}

func (e *Executions) get(ctx context.Context, db Querier, id int64) (wire.Execution, error) {
	x, err := scanExecution(db.QueryRow(ctx, "SELECT "+executionColumns+" FROM "+e.table+" WHERE id = $1", id))
	if errors.Is(err, pgx.ErrNoRows) {
		return wire.Execution{}, &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("there is no execution %d", id)}
	}
	if err != nil {
		return wire.Execution{}, fmt.Errorf("read execution %d: %w", id, err)
	}
	return x, nil
}

// GetMany reads the executions with these ids, those that there are.
func (e *Executions) GetMany(ctx context.Context, ids []int64) ([]wire.Execution, error) {
	rows, err := e.pool.Query(ctx, "SELECT "+executionColumns+" FROM "+e.table+" WHERE id = ANY($1)", ids)
	if err != nil {
		return nil, fmt.Errorf("read %d executions: %w", len(ids), err)
	}
	executions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (wire.Execution, error) {
		return scanExecution(row)
	})
	if err != nil {
		return nil, fmt.Errorf("read %d executions: %w", len(ids), err)
	}
	return executions, nil
}

// List reads a page of executions, newest first. Items is never nil.
func (e *Executions) List(ctx context.Context, q wire.ExecutionQuery) (wire.ExecutionList, error) {
	var conditions []string
	var args []any
	where := func(condition string, arg any) {
		args = append(args, arg)
		conditions = append(conditions, fmt.Sprintf(condition, len(args)))
	}
	if q.Status != "" {
		where(e.statusEquals(q.Status), string(q.Status))
	}
	if q.ActionRef != "" {
		if len(q.ActionRef) <= 1000 { // says nothing new, but to the planner: the index has it
			conditions = append(conditions, "octet_length(action_ref) <= 1000")
		}
		where("action_ref = $%d", q.ActionRef)
	}
	if q.Parent != nil {
		where("parent = $%d", *q.Parent)
	}
	if q.VisibleTo != nil {
		where("(executor IS NULL OR executor = $%d)", *q.VisibleTo)
	}
	if q.Before != nil {
		where("id < $%d", *q.Before)
	}
	columns := executionColumns
	if q.Brief {
		columns = briefColumns
	}
	sql := "SELECT " + columns + " FROM " + e.table
	if len(conditions) > 0 {
		sql += " WHERE " + strings.Join(conditions, " AND ")
	}
	limit := max(q.Limit, 1)
	args = append(args, limit+1) // one more tells whether there is another page
	sql += " ORDER BY id DESC LIMIT $" + strconv.Itoa(len(args))

	rows, err := e.pool.Query(ctx, sql, args...)
	if err != nil {
		return wire.ExecutionList{}, fmt.Errorf("list executions: %w", err)
	}
	items, err := pgx.AppendRows(make([]wire.Execution, 0, limit+1), rows, func(row pgx.CollectableRow) (wire.Execution, error) {
		return scanExecution(row)
	})
	if err != nil {
		return wire.ExecutionList{}, fmt.Errorf("list executions: %w", err)
	}
	list := wire.ExecutionList{Items: items}
	if len(items) > limit {
		list.Items = items[:limit]
		list.NextBefore = &items[limit-1].ID
	}
	return list, nil
}

// statusEquals returns the condition, less the number of its argument. An index on an
// enum serves only comparisons of the enum, and those fail for a label that it does
// not have: such a one, or one added meanwhile, is compared as text.
func (e *Executions) statusEquals(s wire.Status) string {
	switch {
	case len(e.labels) == 0: // no enum
		return "status = $%d"
	case slices.Contains(e.labels, string(s)):
		return "status = $%d::" + strings.ReplaceAll(e.statusType, "%", "%%")
	}
	return "status::text = $%d"
}

// Create inserts an execution as requested, within tx. What the column cannot hold
// (an escaped NUL, a number out of range) is a *wire.Error with CodeInvalidParameter.
func (e *Executions) Create(ctx context.Context, tx pgx.Tx, req wire.ExecutionRequest) (wire.Execution, error) {
	x, err := scanExecution(tx.QueryRow(ctx,
		"INSERT INTO "+e.table+" (action_ref, config, status, executor) VALUES ($1, $2::jsonb, 'requested', $3) RETURNING "+executionColumns,
		req.ActionRef, jsonArg(req.Parameters), req.Executor))
	if isUnstorable(err) {
		return wire.Execution{}, &wire.Error{
			Code:    wire.CodeInvalidParameter,
			Message: "parameters: PostgreSQL cannot store them as jsonb (no \\u0000, no numbers beyond its range, not too deeply nested)",
			Err:     err,
		}
	}
	if err != nil {
		return wire.Execution{}, fmt.Errorf("create an execution of %q: %w", req.ActionRef, err)
	}
	return x, nil
}

// Transition takes an execution to another status if it is in one of from, and
// reports whether it did; the execution is returned as it is afterwards, either way.
// Going to running sets started_at. A nil result leaves the column alone.
//
// If there is no such execution it returns a *wire.Error with CodeNotFound, and with
// CodeInvalidParameter when the column cannot hold the result.
func (e *Executions) Transition(ctx context.Context, db Querier, id int64, from []wire.Status, to wire.Status, result json.RawMessage) (wire.Execution, bool, error) {
	x, err := scanExecution(db.QueryRow(ctx, `
		UPDATE `+e.table+` SET
			status = $2,
			result = coalesce($3::jsonb, result),
			started_at = CASE WHEN $4::boolean THEN now() ELSE started_at END,
			updated = now()
		WHERE id = $1 AND status::text = ANY ($5::text[])
		RETURNING `+executionColumns,
		id, string(to), jsonArg(result), to == wire.StatusRunning, from))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		x, err = e.get(ctx, db, id)
		return x, false, err
	case isUnstorable(err):
		return wire.Execution{}, false, &wire.Error{
			Code: wire.CodeInvalidParameter, Message: "the result cannot be stored as jsonb", Err: err,
		}
	case err != nil:
		return wire.Execution{}, false, fmt.Errorf("take execution %d to %s: %w", id, to, err)
	}
	return x, true, nil
}

func scanExecution(row pgx.Row) (wire.Execution, error) {
	var x wire.Execution
	var actionRef *string // a foreign table may allow NULL
	err := row.Scan(&x.ID, &actionRef, (*[]byte)(&x.Parameters), &x.Parent, &x.Executor, &x.Status,
		(*[]byte)(&x.Result), &x.StartedAt, &x.Created, &x.Updated)
	if err != nil {
		return wire.Execution{}, err
	}
	if actionRef != nil {
		x.ActionRef = *actionRef
	}
	x.Created, x.Updated = x.Created.UTC(), x.Updated.UTC()
	if x.StartedAt != nil {
		*x.StartedAt = x.StartedAt.UTC()
	}
	return x, nil
}

// jsonArg is text or NULL, for a $n::jsonb.
func jsonArg(m json.RawMessage) *string {
	if m == nil {
		return nil
	}
	s := string(m)
	return &s
}

// isUnstorable reports whether PostgreSQL refused a value, not the statement: data
// exceptions (22…) and its limits (54…).
func isUnstorable(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(e.Code, "22") || strings.HasPrefix(e.Code, "54"))
}
