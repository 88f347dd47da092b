package auth

import (
	"fmt"
	"slices"
	"strings"

	"attune/wire"
)

// any stands for every name or id in a pattern.
const anything = "*"

// maxPatterns bounds how many filters a token may list.
const maxPatterns = 100

// Pattern is a filter in which * may stand in place of a type or an id.
type Pattern struct {
	form string // what stands before the first colon
	name string // the type
	id   string // the entity's or user's id
}

// ParsePattern parses a filter as wire.ParseFilter does, with * allowed for any <type>
// or <id>: entity_type:execution, entity:orders:*, user:*.
func ParsePattern(text string) (Pattern, error) {
	fields := strings.Split(text, ":")
	for i, field := range fields[1:] {
		if field == anything {
			fields[i+1] = "0" // a name and an id of every kind
		}
	}
	if _, err := wire.ParseFilter(strings.Join(fields, ":")); err != nil {
		return Pattern{}, fmt.Errorf("filter %.200q: want one of %s, with * for any <type> or <id>", text, wire.FilterForms)
	}
	return split(text), nil
}

// split takes apart what was parsed.
func split(text string) Pattern {
	form, rest, _ := strings.Cut(text, ":")
	switch form {
	case "entity":
		name, id, _ := strings.Cut(rest, ":")
		return Pattern{form: form, name: name, id: id}
	case "user":
		return Pattern{form: form, id: rest}
	}
	return Pattern{form: form, name: rest}
}

// Covers reports whether f is the pattern, or brings no more than it does: all covers
// every filter, entity_type:orders covers entity:orders:42.
func (p Pattern) Covers(f wire.Filter) bool {
	g := split(f.String())
	switch {
	case p.form == "all":
		return g.form != ""
	case p.form == "entity_type" && g.form == "entity":
		return fits(p.name, g.name)
	}
	return p.form == g.form && fits(p.name, g.name) && fits(p.id, g.id)
}

// Matches reports whether the pattern, as a filter, matches n.
func (p Pattern) Matches(n *wire.Notification) bool {
	switch p.form {
	case "all":
		return true
	case "entity_type":
		return fits(p.name, n.EntityType)
	case "entity":
		return fits(p.name, n.EntityType) && fits(p.id, n.EntityID.String())
	case "notification_type":
		return fits(p.name, n.NotificationType)
	case "user":
		if n.UserID == nil {
			return false
		}
		user, ok := p.user()
		return !ok || user == *n.UserID
	}
	return false
}

// user returns the user of a user pattern; ok is false for any.
func (p Pattern) user() (id int64, ok bool) {
	if p.id == anything {
		return 0, false
	}
	f, _ := wire.ParseFilter(p.form + ":" + p.id) // was parsed before
	return f.User()
}

// String returns the text that ParsePattern accepts.
func (p Pattern) String() string {
	fields := slices.DeleteFunc([]string{p.form, p.name, p.id}, func(field string) bool { return field == "" })
	return strings.Join(fields, ":")
}

func fits(pattern, text string) bool { return pattern == anything || pattern == text }
