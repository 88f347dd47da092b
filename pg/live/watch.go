package live

import (
	"context"
	"fmt"
)

// NoChannel instead of a channel leaves that kind of change out.
const NoChannel = "-"

// WatchOptions say how a table is watched; the zero value is a good way. Names of
// columns are as PostgreSQL stores them, without quotes.
type WatchOptions struct {
	// EntityType is 1 to 63 characters of [A-Za-z0-9_.-]; by default the table's name
	// without the schema.
	EntityType string `json:"entity_type,omitempty"`
	// Key is the column that identifies a row: an integer, uuid, text or varchar. By
	// default the primary key, which must be one column then.
	Key string `json:"key,omitempty"`
	// Columns are put into the payload, and an update is told only if one of them, or
	// the key, was changed. By default all that the table has now.
	Columns []string `json:"columns,omitempty"`
	// On, if given, are the columns whose change is told, instead of Columns.
	On []string `json:"on,omitempty"`
	// Old are columns whose value before an update goes into the payload as
	// old_<column>.
	Old []string `json:"old,omitempty"`
	// UserID is an integer column that says who may see the row's notifications; by
	// default, and where it is null, everybody may.
	UserID string `json:"user_id,omitempty"`
	// Created, Changed and Deleted are the channels; by default the entity type with
	// _created, _changed or _deleted behind it. NoChannel leaves the change out.
	Created string `json:"created,omitempty"`
	Changed string `json:"changed,omitempty"`
	Deleted string `json:"deleted,omitempty"`
	// Envelope puts entity_type, entity_id and user_id into the payload, as a payload
	// of pg_notify has them, in place of op.
	Envelope bool `json:"envelope,omitempty"`
}

// ExecutionOptions say how an execution table is watched for notifications like
// those of an Attune platform.
func ExecutionOptions() WatchOptions {
	return WatchOptions{
		EntityType: "execution",
		Key:        "id",
		UserID:     "executor",
		Columns: []string{
			"id", "action", "action_ref", "parent", "enforcement", "executor", "status", "started_at", "created", "updated",
		},
		On:       []string{"status"},
		Old:      []string{"status"},
		Created:  "execution_created",
		Changed:  "execution_status_changed",
		Deleted:  NoChannel,
		Envelope: true,
	}
}

// WatchSQL returns the script that makes the table watched in that way, and "" if it
// is so already. The table is named as SQL does it: public.orders, "Odd ""name""". It
// may be partitioned; the partitions are watched with it. An error says what was
// wrong and what is accepted.
//
// The payload of a notification is a JSON object: op (created, changed or deleted),
// the key, and the columns, each under its name. An update that gives a row another key
// is told as deleted under the old one, with the row as it was, and created under the
// new one; where created is left out, as changed. Types of PostgreSQL's own become
// what to_json makes of them, with times in UTC; any other, enums and those of
// extensions, is the text that PostgreSQL prints, so that no function of somebody
// else runs with our rights.
func WatchSQL(ctx context.Context, db DB, table string, o WatchOptions) (string, error) {
	script, err := watchScript(ctx, db, table, o)
	if err != nil {
		return "", fmt.Errorf("watch %s: %w", table, err)
	}
	return script, nil
}

// Watch makes the table watched. Watching it again replaces the way in which it was;
// if that is the same, nothing is done and no lock taken. What a table
// of that name has left that was dropped goes. It needs Install before, and a role that
// is the owner of the table and of the schema, or a member of theirs.
//
// Rows that were written by transactions that are still running when a table is
// watched for the first time are not told.
func Watch(ctx context.Context, db DB, table string, o WatchOptions) error {
	err := locked(ctx, db, func(tx DB) (string, error) { return watchScript(ctx, tx, table, o) })
	if err != nil {
		return fmt.Errorf("watch %s: %w", table, err)
	}
	return nil
}

// UnwatchSQL returns the script that takes back all that Watch made for a table.
func UnwatchSQL(ctx context.Context, db DB, table string) (string, error) {
	script, err := unwatchScript(ctx, db, table)
	if err != nil {
		return "", fmt.Errorf("unwatch %s: %w", table, err)
	}
	return script, nil
}

// Unwatch takes back all that Watch made for a table, or, where there is none of that
// name, for one that was dropped since. What was logged stays.
func Unwatch(ctx context.Context, db DB, table string) error {
	err := locked(ctx, db, func(tx DB) (string, error) { return unwatchScript(ctx, tx, table) })
	if err != nil {
		return fmt.Errorf("unwatch %s: %w", table, err)
	}
	return nil
}
