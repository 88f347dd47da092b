package live

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"attune/wire"
)

//go:embed sql/watch.sql.tmpl
var watchSQL string

// triggerPrefix begins the names of our triggers on other people's tables. Triggers
// fire in the order of their names: ours take the commit lock, so others go first.
const triggerPrefix = "zz_attune_live_"

// plan fills the template of the script. Every text in it is SQL, quoted.
type plan struct {
	Owner           string // statements
	Relation        string
	Name            string // the relation's, as a literal
	EntityType      string
	Key             string
	CheckKey        bool     // at run time
	Settings        []string // without which what is told would depend on the writer's
	Staged          bool     // what is told is published behind other people's deferred triggers
	Tag             string   // the dollar quote around functions
	TruncateTrigger string
	Emptied         []string // the relations whose TRUNCATE is told: those of a partition are not its table's
	Obsolete        []string // statements
	Triggers        []trigger
	Function        string
	Options         string
	Digest          string
}

// trigger tells of one kind of change.
type trigger struct {
	op string

	Name, Function, Event, Row, When, User, Body string
	Channel                                      string // "" if only Steps are told
	AsWatched                                    string // the condition that the columns have the types they had

	// Rekeyed is the condition under which an update gave the row another key. Steps tell
	// it, as far as they are told at all: the row of the old key is gone, that of the new
	// one has come.
	Rekeyed string
	Steps   []trigger
}

// ToldAnew reports whether Steps tell of the new key, so that there is no change to be
// told besides.
func (t trigger) ToldAnew() bool {
	return t.Channel == "" || slices.ContainsFunc(t.Steps, func(s trigger) bool { return s.op == "created" })
}

// watchScript returns the statements that make a table watched; "" if it is so already.
func watchScript(ctx context.Context, db DB, table string, o WatchOptions) (string, error) {
	r, err := lookUp(ctx, db, table)
	if err != nil {
		return "", err
	}
	if !r.owned {
		// The privilege TRIGGER makes triggers, but does not take them away again.
		return "", fmt.Errorf("it belongs to the role %s: connect as that, or as a member of it", r.owner)
	}
	return r.watchScript(o)
}

// watchScript does so for whoever may watch the table.
func (r *relation) watchScript(o WatchOptions) (string, error) {
	if o.EntityType == "" {
		o.EntityType = r.name
	}
	if !wire.IsTypeName(o.EntityType) {
		return "", fmt.Errorf("entity type %q: want 1 to 63 characters of [A-Za-z0-9_.-]", o.EntityType)
	}
	cs, err := r.choose(o)
	if err != nil {
		return "", err
	}
	// Stored as found, so that a column that goes later is missed.
	o.Key, o.Columns = cs.key.name, names(cs.payload)
	stored, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	p := &plan{
		Owner:           ownerSQL,
		Relation:        ident(r.schema, r.name),
		Name:            literal(ident(r.schema, r.name)),
		EntityType:      literal(o.EntityType),
		Key:             ident(cs.key.name),
		CheckKey:        cs.key.isText(),
		Settings:        cs.settings(),
		Staged:          r.deferrable,
		TruncateTrigger: ident(triggerPrefix + "truncated"),
		Emptied:         append([]string{ident(r.schema, r.name)}, r.partitions...),
		Function:        literal(r.function),
		Options:         literal(string(stored)),
	}
	if r.kind == "p" && o.Created == NoChannel {
		return "", errors.New("created can not be left out of a partitioned table: " +
			"a row that moves to another partition is told as deleted and created")
	}
	if p.Triggers, err = cs.triggers(o, r.function); err != nil {
		return "", err
	}
	return p.script(r)
}

// triggers returns what tells of changes, nothing for those that are left out.
func (cs columns) triggers(o WatchOptions, function string) ([]trigger, error) {
	all := []trigger{
		{op: "deleted", Event: "DELETE", Row: "OLD", Channel: o.Deleted},
		{op: "created", Event: "INSERT", Row: "NEW", Channel: o.Created},
		{op: "changed", Event: "UPDATE", Row: "NEW", Channel: o.Changed, Rekeyed: cs.rekeyed()},
	}
	var told []trigger
	for _, t := range all {
		t.Name = ident(triggerPrefix + t.op)
		t.Function = ident(Schema, function+"_"+t.op)
		t.AsWatched = cs.asWatched(t.Row)
		if t.op == "changed" {
			t.Steps = slices.Clone(told)
			t.When = differ(cs.key)
		}
		if t.Channel == NoChannel {
			t.Channel = ""
			if len(t.Steps) > 0 {
				told = append(told, t)
			}
			continue
		}
		if t.Channel == "" {
			t.Channel = o.EntityType + "_" + t.op
		}
		if !isChannel(t.Channel) {
			return nil, fmt.Errorf("channel %q: want 1 to 63 bytes without control characters", t.Channel)
		}
		t.Channel = literal(t.Channel)
		t.User = "NULL"
		if cs.user != nil {
			t.User = t.Row + "." + ident(cs.user.name)
		}
		if t.op == "changed" {
			others := slices.DeleteFunc(slices.Clone(cs.on), func(c column) bool { return c.name == cs.key.name })
			t.When = differ(append([]column{cs.key}, others...)...)
		}
		t.Body = object(cs.members(t, o))
		told = append(told, t)
	}
	if len(told) == 0 {
		return nil, errors.New("every kind of change is left out: want created, changed or deleted")
	}
	return told, nil
}

// script executes the template.
func (p *plan) script(r *relation) (string, error) {
	texts := []string{p.Relation, p.EntityType, p.Key}
	for _, t := range p.Triggers {
		texts = append(texts, t.Channel, t.User, t.Body, t.AsWatched)
	}
	texts = append(texts, p.Name)
	p.Tag = dollarTag(texts...)

	tmpl, err := template.New("watch").Parse(watchSQL)
	if err != nil {
		return "", err
	}
	// The digest is that of the script for a table without triggers of ours.
	var b strings.Builder
	if err := tmpl.Execute(&b, p); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(b.String()))
	digest := hex.EncodeToString(sum[:16])
	if digest == r.digest && p.inPlace(r) && len(r.dropped) == 0 {
		return "", nil
	}
	p.Digest = literal(digest)
	p.Obsolete = p.obsolete(r)
	b.Reset()
	if err := tmpl.Execute(&b, p); err != nil {
		return "", err
	}
	return script(b.String()), nil
}

// inPlace reports whether the triggers are there, and no others of ours.
func (p *plan) inPlace(r *relation) bool {
	if len(r.triggers) != len(p.Triggers)+1 {
		return false
	}
	for _, t := range r.triggers {
		wanted := ident(t.name) == p.TruncateTrigger && t.function == "truncated" ||
			slices.ContainsFunc(p.Triggers, func(w trigger) bool {
				return w.Name == ident(t.name) && w.Function == ident(Schema, t.function)
			})
		if !wanted || !t.enabled {
			return false
		}
	}
	return true
}

// obsolete returns the statements that make room.
func (p *plan) obsolete(r *relation) []string {
	var statements []string
	for _, w := range r.dropped {
		statements = append(statements, w.forget()...)
	}
	for _, t := range r.triggers {
		statements = append(statements, "DROP TRIGGER IF EXISTS "+ident(t.name)+" ON "+p.Relation)
	}
	for _, partition := range r.partitions {
		statements = append(statements, "DROP TRIGGER IF EXISTS "+p.TruncateTrigger+" ON "+partition)
	}
	for _, op := range operations() {
		kept := slices.ContainsFunc(p.Triggers, func(t trigger) bool { return t.op == op })
		if !kept && r.digest != "" {
			statements = append(statements, "DROP FUNCTION IF EXISTS "+ident(Schema, r.function+"_"+op)+"()")
		}
	}
	return statements
}

// operations returns the kinds of change, as they end the names of functions.
func operations() []string { return []string{"created", "changed", "deleted"} }

// columns are those of a table that are watched, by what they are for.
type columns struct {
	key              column
	user             *column
	payload, on, old []column
}

// names returns the names of columns.
func names(columns []column) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return all
}

// choose finds the columns that the options name.
func (r *relation) choose(o WatchOptions) (cs columns, err error) {
	if cs.key, err = r.key(o.Key); err != nil {
		return cs, err
	}
	if o.UserID != "" {
		user, err := r.column(o.UserID)
		if err != nil {
			return cs, err
		}
		if !user.isInteger() {
			return cs, fmt.Errorf("user id column %q is of type %s: want smallint, integer or bigint", user.name, user.typeName)
		}
		cs.user = &user
	}
	cs.payload = r.columns
	if len(o.Columns) > 0 {
		if cs.payload, err = r.named(o.Columns); err != nil {
			return cs, err
		}
	}
	cs.on = cs.payload
	if len(o.On) > 0 {
		if cs.on, err = r.named(o.On); err != nil {
			return cs, err
		}
	}
	cs.old, err = r.named(o.Old)
	return cs, err
}

// all returns the columns that the functions use, each once.
func (cs columns) all() []column {
	all := slices.Concat([]column{cs.key}, cs.payload, cs.old)
	if cs.user != nil {
		all = append(all, *cs.user)
	}
	slices.SortFunc(all, func(a, b column) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(all, func(a, b column) bool { return a.name == b.name })
}

// settings returns what functions SET.
func (cs columns) settings() []string {
	var set []string
	for _, s := range settings() {
		if !slices.ContainsFunc(cs.all(), func(c column) bool { return c.dependsOn(s) }) {
			continue
		}
		value := literal(s.value)
		if s.name == "search_path" {
			value = s.value // a list, of which this would be one name
		}
		set = append(set, ident(s.name)+" = "+value)
	}
	return set
}

// asWatched returns the condition that no column's type is another than it was. Types
// that are not PostgreSQL's own need not be compared: they are printed, whatever they are.
func (cs columns) asWatched(row string) string {
	var conditions []string // one at least: a key's type is PostgreSQL's own
	for _, c := range cs.all() {
		if c.builtin {
			conditions = append(conditions, fmt.Sprintf("pg_catalog.pg_typeof(%s.%s) OPERATOR(pg_catalog.=) %d::pg_catalog.oid", row, ident(c.name), c.typeOID))
		}
	}
	return strings.Join(conditions, "\n            AND ")
}

// rekeyed returns the condition in the function of an update: there, unlike in that of
// a trigger, an operator without a schema could be anybody's.
func (cs columns) rekeyed() string {
	name, collation := ident(cs.key.name), ""
	if cs.key.isText() {
		collation = ` COLLATE pg_catalog."C"`
	}
	return "(OLD." + name + " OPERATOR(pg_catalog.=) NEW." + name + collation + ") IS NOT TRUE"
}

// differ returns the condition under which an update changed one of the columns. Where
// equal values may look different (1.0 and 1.00), or the type has no equality (json),
// it compares what is stored, byte by byte.
func differ(columns ...column) string {
	var conditions, stored []string
	for _, c := range columns {
		name := ident(c.name)
		switch {
		case c.exact():
			conditions = append(conditions, "OLD."+name+" IS DISTINCT FROM NEW."+name)
		default:
			stored = append(stored, name)
		}
	}
	if len(stored) > 0 {
		row := func(of string) string {
			return "ROW(" + of + "." + strings.Join(stored, ", "+of+".") + ")::pg_catalog.record"
		}
		conditions = append(conditions, row("OLD")+" OPERATOR(pg_catalog.*<>) "+row("NEW"))
	}
	return strings.Join(conditions, " OR ")
}

// member is a member of a JSON object, name and value as SQL.
type member struct{ name, value string }

// members returns what the payload holds.
func (cs columns) members(t trigger, o WatchOptions) []member {
	var ms []member
	add := func(name, value string) {
		quoted := literal(name)
		if !slices.ContainsFunc(ms, func(m member) bool { return m.name == quoted }) {
			ms = append(ms, member{quoted, value})
		}
	}
	hasOp := slices.ContainsFunc(cs.payload, func(c column) bool { return c.name == "op" })
	switch {
	case o.Envelope:
		add("entity_type", literal(o.EntityType))
		add("entity_id", cs.key.value(t.Row))
		add("user_id", t.User)
	case !hasOp:
		add("op", literal(t.op))
	}
	add(cs.key.name, cs.key.value(t.Row))
	for _, c := range cs.payload {
		add(c.name, c.value(t.Row))
	}
	if t.op == "changed" {
		for _, c := range cs.old {
			add("old_"+c.name, c.value("OLD"))
		}
	}
	return ms
}

// value returns the column of a row, fit for JSON. Types that are not PostgreSQL's own
// are printed: a cast to JSON could be a function of anybody's, run with our rights.
func (c column) value(row string) string {
	v := row + "." + ident(c.name)
	if c.builtin {
		return v
	}
	return "CASE WHEN " + v + " IS NOT DISTINCT FROM NULL THEN NULL ELSE pg_catalog.format('%s', " + v + ") END"
}

// object returns the expression of a JSON object. A function takes 100 arguments, so
// that of a wide table is put together from parts.
func object(ms []member) string {
	const most = 45
	var parts []string
	for chunk := range slices.Chunk(ms, most) {
		args := make([]string, len(chunk))
		for i, m := range chunk {
			args[i] = m.name + ", " + m.value
		}
		parts = append(parts, "pg_catalog.json_build_object(\n            "+strings.Join(args, ",\n            ")+")")
	}
	if len(parts) == 1 {
		return parts[0]
	}
	// Of each part but the first the brace before its members becomes a comma.
	var joined strings.Builder
	joined.WriteString("(pg_catalog.left(" + parts[0] + "::pg_catalog.text, -1)")
	for _, part := range parts[1:] {
		joined.WriteString(" OPERATOR(pg_catalog.||) ',' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.left(" + part + "::pg_catalog.text, -1), 2)")
	}
	joined.WriteString(" OPERATOR(pg_catalog.||) '}')::pg_catalog.json")
	return joined.String()
}
