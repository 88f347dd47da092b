package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Longest names, in characters.
const (
	maxType   = 63
	maxID     = 128
	maxCursor = 128
)

// FilterForms lists the accepted filters, for error messages.
const FilterForms = "all, entity_type:<type>, entity:<type>:<id>, user:<id>, notification_type:<type>"

// filterKind tells the five forms of a filter apart.
type filterKind uint8

const (
	filterAll filterKind = iota + 1
	filterEntityType
	filterEntity
	filterUser
	filterNotificationType
)

// Filter is a predicate over notifications. Filters are comparable: each accepted
// text is the only one of its meaning, so equal filters match the same
// notifications and a Filter can be the key of an index. The zero Filter matches
// nothing.
type Filter struct {
	kind filterKind
	name string // the type
	id   string // the entity's or user's id
}

// ParseFilter parses one of FilterForms. <type> is 1 to 63 characters of
// [A-Za-z0-9_.-], <id> 1 to 128 of them, a user's id an int64 in canonical decimal
// form. Any other text is an *Error with CodeInvalidFilter.
func ParseFilter(s string) (Filter, error) {
	form, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "all":
		return Filter{kind: filterAll}, nil
	case form == "entity_type" && isName(rest, maxType):
		return Filter{kind: filterEntityType, name: rest}, nil
	case form == "notification_type" && isName(rest, maxType):
		return Filter{kind: filterNotificationType, name: rest}, nil
	case form == "entity":
		if name, id, ok := strings.Cut(rest, ":"); ok && isName(name, maxType) && isName(id, maxID) {
			return EntityFilter(name, id), nil
		}
	case form == "user":
		if id, err := strconv.ParseInt(rest, 10, 64); err == nil && strconv.FormatInt(id, 10) == rest {
			return Filter{kind: filterUser, id: rest}, nil
		}
	}
	return Filter{}, &Error{Code: CodeInvalidFilter, Message: fmt.Sprintf("filter %.200q: want one of %s", s, FilterForms)}
}

// EntityFilter returns the filter entity:<name>:<id>.
func EntityFilter(name, id string) Filter { return Filter{kind: filterEntity, name: name, id: id} }

// String returns the text that ParseFilter accepts.
func (f Filter) String() string {
	switch f.kind {
	case filterAll:
		return "all"
	case filterEntityType:
		return "entity_type:" + f.name
	case filterNotificationType:
		return "notification_type:" + f.name
	case filterEntity:
		return "entity:" + f.name + ":" + f.id
	case filterUser:
		return "user:" + f.id
	}
	return ""
}

// User returns the id that a user filter names.
func (f Filter) User() (int64, bool) {
	if f.kind != filterUser {
		return 0, false
	}
	id, err := strconv.ParseInt(f.id, 10, 64)
	return id, err == nil
}

// Filters returns the filters that match n: at most five, whatever the number of
// subscribers, so that an index finds them by look-up. The result is appended to
// dst.
func (n *Notification) Filters(dst []Filter) []Filter {
	dst = append(dst,
		Filter{kind: filterAll},
		Filter{kind: filterEntityType, name: n.EntityType},
		Filter{kind: filterEntity, name: n.EntityType, id: n.EntityID.text},
		Filter{kind: filterNotificationType, name: n.NotificationType})
	if n.UserID != nil {
		dst = append(dst, Filter{kind: filterUser, id: strconv.FormatInt(*n.UserID, 10)})
	}
	return dst
}

// Matches reports whether f matches n.
func (f Filter) Matches(n *Notification) bool {
	var keys [5]Filter
	return slices.Contains(n.Filters(keys[:0]), f)
}

// IsTypeName reports whether s can stand as <type> in a filter.
func IsTypeName(s string) bool { return isName(s, maxType) }

// isName reports whether s is 1 to most characters of [A-Za-z0-9_.-].
func isName(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}
