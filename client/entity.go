package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"attune/wire"
)

// Why a wait for an entity ends without what was waited for.
var (
	// ErrNotReached: the time is over, and the last look found the row otherwise.
	ErrNotReached = errors.New("not reached yet")
	// ErrDeleted: the row was there and is no more.
	ErrDeleted = errors.New("the row was deleted")
)

// Entity reads a row of a watched table. If there is none with that id the error is a
// *StatusError with a Cursor, after which the row may come; one without a Cursor says
// why the server could not look.
func (c *Client) Entity(ctx context.Context, entityType, id string) (wire.Entity, error) {
	var e wire.Entity
	_, err := c.do(ctx, call{
		method: http.MethodGet, path: "/entities/" + segment(entityType) + "/" + segment(id), want: http.StatusOK,
	}, &e)
	if err == nil && (e.EntityType != entityType || e.Payload == nil) {
		return wire.Entity{}, fmt.Errorf("read %s %s: the answer is not that entity", entityType, id)
	}
	return e, err
}

// segment returns a name as it stands in a path. Two names mean something else there.
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return name
}

// WaitEntity waits until a row of a watched table is as until says, and returns it.
// Until is given payloads, those of notifications as well as those of the row as it
// is read, and nil where there is no such row; what it refuses of a row ends the wait
// with its error. A state that lasted only a moment counts, if a notification told it.
// The payload that is returned is the one that until accepted.
//
// A row that does not exist ends the wait with the server's *StatusError, and with
// ErrDeleted if it did exist, unless until accepts that, or opts.Absent goes on.
//
// For the rest it is Wait, with ErrNotReached when the time is over. The entity type
// and the id are those of a filter entity:<type>:<id>.
func (c *Client) WaitEntity(ctx context.Context, entityType, id string, until func(payload json.RawMessage) (bool, error), opts WaitOptions) (wire.Entity, error) {
	e, err := c.waitEntity(ctx, entityType, id, until, opts)
	if err != nil {
		return e, fmt.Errorf("wait for %s %s: %w", entityType, id, err)
	}
	return e, nil
}

func (c *Client) waitEntity(ctx context.Context, entityType, id string, until func(payload json.RawMessage) (bool, error), opts WaitOptions) (wire.Entity, error) {
	filter := "entity:" + entityType + ":" + id
	if _, err := wire.ParseFilter(filter); err != nil {
		return wire.Entity{}, err
	}
	key, err := wire.TextID(id)
	if err != nil {
		return wire.Entity{}, err
	}
	w := &entityWait{
		client: c, absent: wire.Entity{EntityType: entityType, EntityID: key}, until: until, mayBeAbsent: opts.Absent,
	}
	e, err := await(ctx, c, subject[wire.Entity]{filter: filter, read: w.read, hear: w.hear, unmet: ErrNotReached}, opts)
	if isAbsent(err) && (e.Payload != nil || w.existed) {
		err = fmt.Errorf("%w: %w", ErrDeleted, err)
	}
	return e, err
}

// entityWait is one call of WaitEntity.
type entityWait struct {
	client      *Client
	absent      wire.Entity // where there is no row
	until       func(json.RawMessage) (bool, error)
	mayBeAbsent bool
	existed     bool // a notification told of it
}

// read reads the row.
func (w *entityWait) read(ctx context.Context) (sight[wire.Entity], error) {
	e, err := w.client.Entity(ctx, w.absent.EntityType, w.absent.EntityID.String())
	if isAbsent(err) {
		over, refused := w.until(nil)
		if refused != nil || !over && !w.mayBeAbsent {
			return sight[wire.Entity]{}, err
		}
		return sight[wire.Entity]{value: w.absent, over: over}, nil
	}
	if err != nil {
		return sight[wire.Entity]{}, err
	}
	over, err := w.until(e.Payload)
	if err != nil {
		return sight[wire.Entity]{}, &untilError{err}
	}
	return sight[wire.Entity]{value: e, over: over, facts: factsOf(e.Payload), event: Read{Payload: e.Payload}}, nil
}

// hear takes a notification. Those of a watched table hold the row, and say by op what
// became of it.
func (w *entityWait) hear(n wire.Notification) (sight[wire.Entity], verdict) {
	heard := sight[wire.Entity]{
		value: wire.Entity{EntityType: n.EntityType, EntityID: n.EntityID, UserID: n.UserID, Payload: n.Payload},
		facts: factsOf(n.Payload),
		event: Notified{NotificationType: n.NotificationType, Payload: n.Payload},
	}
	w.existed = true
	op := heard.facts["op"]
	if op == `"deleted"` {
		return heard, unclear // the payload is the row that was; there may be a new one
	}
	over, err := w.until(n.Payload)
	switch {
	case err == nil && over:
		return heard, reached
	case err == nil && (op == `"created"` || op == `"changed"`):
		return heard, goesOn
	}
	return heard, unclear // somebody else's, who need not tell the columns
}

// factsOf returns the members of a payload.
func factsOf(payload json.RawMessage) facts {
	members, err := wire.Object(payload)
	if err != nil {
		return facts{}
	}
	told := make(facts, len(members))
	for name, value := range members {
		var text bytes.Buffer
		if json.Compact(&text, value) == nil {
			told[name] = text.String()
		}
	}
	return told
}

// isAbsent reports whether the server looked, and there is no such row. It is not
// enough that it said 404: it does so, too, where it does not know the table.
func isAbsent(err error) bool {
	refused, ok := errors.AsType[*StatusError](err)
	return ok && refused.Status == http.StatusNotFound && refused.Cursor != ""
}

// untilError is what a caller's condition refused of a row.
type untilError struct{ err error }

func (e *untilError) Error() string { return e.err.Error() }
func (e *untilError) Unwrap() error { return e.err }
