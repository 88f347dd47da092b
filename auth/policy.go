package auth

import (
	"fmt"
	"strconv"

	"attune/wire"
)

// Action is what somebody wants to do.
type Action uint8

// The actions, one for each row of the table.
const (
	// Subscribe follows a filter; Receive gets one notification, live or replayed.
	Subscribe Action = iota
	Receive
	ReadExecution
	ListExecutions
	CreateExecution
	CancelExecution
	ReadEntity
	// TakeTicket and OpenSession hand the token's own rights on.
	TakeTicket
	OpenSession
	// Observe reads /stats and /metrics.
	Observe
	actions
)

// String names the action in error messages.
func (a Action) String() string {
	switch a {
	case Subscribe:
		return "subscribe to that"
	case Receive:
		return "receive that"
	case ReadExecution:
		return "read that execution"
	case ListExecutions:
		return "list executions"
	case CreateExecution:
		return "start executions"
	case CancelExecution:
		return "cancel that execution"
	case ReadEntity:
		return "read that row"
	case TakeTicket:
		return "take a ticket"
	case OpenSession:
		return "open a session"
	case Observe:
		return "read figures about the server"
	case actions:
	}
	return "do that"
}

// Reach is how far a permission goes.
type Reach uint8

// The reaches, each wider than the one before.
const (
	// Nothing: not allowed.
	Nothing Reach = iota
	// ItsExecution: the execution that the token is for, and what is about it.
	ItsExecution
	// OwnAndShared: what is one's own, and what is nobody's.
	OwnAndShared
	// Everything there is.
	Everything
)

// ReachOf is the table: who may do what, and how far. An owner is a notification's and a
// row's user_id, an execution's executor, the user of a user:<id> filter; what has none
// is shared. A token that lists filters (attune_filters) is limited to those besides,
// whoever's it is.
func ReachOf(role Role, action Action) Reach {
	const no, its, own, all = Nothing, ItsExecution, OwnAndShared, Everything
	table := [actions][roles]Reach{
		//               nobody  execution  user  admin  anyone, where authentication is off
		Subscribe:       {no, its, own, all, all},
		Receive:         {no, its, own, all, all},
		ReadExecution:   {no, its, own, all, all},
		ListExecutions:  {no, no, own, all, all},
		CreateExecution: {no, no, own, all, all},
		CancelExecution: {no, no, own, all, all},
		ReadEntity:      {no, its, own, all, all},
		TakeTicket:      {no, its, own, all, all},
		OpenSession:     {no, its, own, all, all},
		Observe:         {no, no, no, all, all},
	}
	if role >= roles || action >= actions {
		return Nothing
	}
	return table[action][role] //nolint:gosec // both were compared above
}

// Subject is what an action is about.
type Subject struct {
	// Filter is what would have to be followed to hear of it: entity:execution:42 for
	// that execution, entity_type:execution for all of them, all for everything.
	Filter wire.Filter
	// Owner is whose it is; nil: nobody's in particular.
	Owner *int64
}

// May returns nil if the identity may do that, else a *wire.Error with CodeForbidden
// that says why not. A nil Identity may do nothing.
func (id *Identity) May(action Action, about Subject) error {
	if id == nil {
		return forbidden("nobody may %s without a token", action)
	}
	if user, ok := about.Filter.User(); ok && about.Owner == nil {
		about.Owner = &user
	}
	switch ReachOf(id.Role, action) {
	case Nothing:
		return forbidden("%s may not %s", id.Role, action)
	case ItsExecution:
		if handsOn := action == TakeTicket || action == OpenSession; !handsOn && about.Filter != id.execution() {
			return forbidden("%s may not %s: it is for %s alone", id.Role, action, id.execution())
		}
		fallthrough
	case OwnAndShared:
		if !id.owns(about.Owner) {
			return forbidden("you may not %s: it belongs to another user", action)
		}
	case Everything:
	}
	if !id.Restricted || action == TakeTicket || action == OpenSession {
		return nil
	}
	for _, p := range id.Only {
		if p.Covers(about.Filter) {
			return nil
		}
	}
	return forbidden("you may not %s: %s is not among the filters that the token lists (attune_filters)", action, about.Filter)
}

// Receives reports whether the identity may be given n. It is asked for every delivery:
// it allocates nothing.
func (id *Identity) Receives(n *wire.Notification) bool {
	switch ReachOf(id.Role, Receive) {
	case Nothing:
		return false
	case ItsExecution:
		if execution, ok := n.EntityID.Int64(); !ok || n.EntityType != executionType || execution != id.Execution {
			return false
		}
		fallthrough
	case OwnAndShared:
		if !id.owns(n.UserID) {
			return false
		}
	case Everything:
	}
	if !id.Restricted {
		return true
	}
	for _, p := range id.Only {
		if p.Matches(n) {
			return true
		}
	}
	return false
}

// VisibleTo returns the user whose own executions, with those that are nobody's, are all
// that the identity may list; nil: it may list all.
func (id *Identity) VisibleTo() *int64 {
	if ReachOf(id.Role, ListExecutions) == Everything {
		return nil
	}
	return &id.User
}

// Creator returns who an execution that the identity starts, and a connection that it
// opens, belongs to; nil: nobody.
func (id *Identity) Creator() *int64 {
	if id.Role == RoleAnyone {
		return nil
	}
	return &id.User
}

// executionType is the entity type of executions.
const executionType = "execution"

// execution is the only filter of an execution token.
func (id *Identity) execution() wire.Filter {
	return wire.EntityFilter(executionType, strconv.FormatInt(id.Execution, 10))
}

func (id *Identity) owns(owner *int64) bool { return owner == nil || *owner == id.User }

func forbidden(format string, args ...any) *wire.Error {
	return &wire.Error{Code: wire.CodeForbidden, Message: fmt.Sprintf(format, args...)}
}
