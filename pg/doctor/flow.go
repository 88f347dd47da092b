package doctor

import (
	"maps"
	"slices"
	"strings"
)

// What gets into a payload is followed from pg_notify back, through variables,
// assignments and the parameters of a function that sends for others. The order of
// assignments does not count, but where one changes what a variable has. What cannot
// be followed is unclear, and said to be.

// flow is what of a row gets into an expression.
type flow struct {
	// columns are those of NEW and OLD that do for certain.
	columns map[string]carried
	// unclear names what may, or of what the size cannot be told.
	unclear map[string]bool
}

// carried says how a column gets there. A column that came twice came the larger way.
type carried struct {
	whole   bool // with its row, under its own name
	limited bool // its size is measured, or it is unclear
}

func (f *flow) add(g flow) {
	for c, how := range g.columns {
		if f.columns == nil {
			f.columns = make(map[string]carried)
		}
		if was, ok := f.columns[c]; ok {
			how = carried{was.whole || how.whole, was.limited && how.limited}
		}
		f.columns[c] = how
	}
	for what := range g.unclear {
		f.doubt(what)
	}
}

func (f *flow) doubt(what string) {
	if f.unclear == nil {
		f.unclear = make(map[string]bool)
	}
	f.unclear[what] = true
}

// scope is a function in which expressions are followed.
type scope struct {
	*program
	given    func(parameter string) (value []node, ok bool)
	outer    *scope // where the given values come from
	columns  []column
	routines map[string]routine

	busy   map[string]flow // variables that are being followed
	tables []string        // of the queries that are being followed: what is no variable may be a column of theirs
	named  map[string]bool // by WITH: no tables
	steps  int
}

// mostSteps is how many expressions are followed: variables that are made of each
// other can make more of them than anybody has time for.
const mostSteps = 20_000

// routine is what the database says of the functions of a name.
type routine struct{ builtin, bounded bool }

// doubtful returns f as it is where nobody can tell its size.
func (s *scope) doubtful(f flow) flow {
	var g flow
	g.add(f)
	for c, how := range g.columns {
		if !how.limited && s.isUnbounded(c) {
			g.doubt(c)
		}
		g.columns[c] = carried{how.whole, true}
	}
	return g
}

// part returns what a part of f has, or what a function makes of it: nobody can tell
// how much, and not under which name.
func (s *scope) part(f flow) flow { return flow{unclear: s.doubtful(f).unclear} }

// limit returns f as it is where its size is measured.
func limit(f flow) flow {
	columns := maps.Clone(f.columns)
	for c, how := range columns {
		columns[c] = carried{how.whole, true}
	}
	return flow{columns: columns}
}

func (s *scope) isUnbounded(name string) bool {
	return slices.ContainsFunc(s.columns, func(c column) bool { return c.name == name && c.unbounded })
}

func (s *scope) row() flow {
	f := flow{columns: make(map[string]carried)}
	for _, c := range s.columns {
		f.columns[c.name] = carried{whole: true}
	}
	return f
}

// expression follows expressions, separated by commas, or a query.
func (s *scope) expression(e []node) flow {
	if len(e) > 0 && e[0].is("select", "with", "values") {
		return s.query(e)
	}
	var f flow
	for _, item := range split(e, ",") {
		f.add(s.item(item))
	}
	return f
}

// item follows one expression.
func (s *scope) item(e []node) flow {
	if s.steps++; s.steps > mostSteps {
		return flow{unclear: map[string]bool{"too much to follow": true}}
	}
	if len(e) > 2 && e[0].isName() && e[1].is("=>", ":=") { // a named argument
		e = e[2:]
	}
	if e = withCases(e); isCondition(e) {
		return flow{}
	}
	e, _ = until(e, "order")
	var all, last flow
	primary := false // what was read last has a value, so that a name behind it is an alias
	for i := 0; i < len(e); {
		f, length, what := s.term(e[i:], last, primary)
		if what != suffix {
			all.add(last)
		}
		primary = what != joint
		last, i = f, i+length
	}
	all.add(last)
	return all
}

// place says what a term is to the one before it.
type place int

const (
	value  place = iota // another value
	suffix              // something done to the value before
	joint               // an operator between values, or a keyword
)

// term follows what an expression begins with, behind a term of the flow last. It
// returns how many nodes that is.
func (s *scope) term(e []node, last flow, primary bool) (f flow, length int, what place) {
	n := e[0]
	switch n.kind {
	case branches, group:
		return s.expression(n.nodes), 1, value
	case brackets:
		return s.part(last), 1, suffix
	case opaque:
		return flow{unclear: map[string]bool{n.text: true}}, 1, value
	case text, number:
		return flow{}, 1, value
	case operator:
		return s.operator(e, last, primary)
	case word, name:
	}
	switch {
	case n.is("array") && len(e) > 1 && len(e[1].nodes) > 0:
		return s.expression(e[1].nodes), 2, value
	case n.is("over", "filter", "within") && primary && len(e) > 1:
		return last, 2, suffix // within group: the group is read for itself
	case n.is("as") && len(e) > 1:
		return last, 2, suffix
	case isKeyword(n):
		return flow{}, 1, joint
	}
	parts, length := chain(e)
	if length < len(e) && e[length].kind == group && parts[len(parts)-1] != "*" {
		return s.call(parts[len(parts)-1], e[length].nodes), length + 1, value
	}
	if primary {
		return last, length, suffix // an alias
	}
	return s.reference(n, parts), length, value
}

// operator follows an expression that begins with an operator.
func (s *scope) operator(e []node, last flow, primary bool) (f flow, length int, what place) {
	n := e[0]
	switch {
	case n.is("::"):
		end := typeLength(e[1:]) + 1
		if isBoundedType(e[1:end]) {
			last = flow{}
		}
		return last, end, suffix
	case n.is("->", "->>", "#>", "#>>"):
		if len(e) > 1 && (e[1].kind == text || e[1].kind == number) {
			return s.part(last), 2, suffix
		}
		return s.part(last), 1, suffix
	case n.is("-", "#-") && len(e) > 1:
		if names, length := removed(e[1:], n.is("#-")); length > 0 {
			last.columns = maps.Clone(last.columns)
			maps.DeleteFunc(last.columns, func(c string, _ carried) bool { return slices.Contains(names, c) })
			return last, length + 1, suffix
		}
	case n.is("*") && !primary && len(s.tables) > 0:
		return s.rows(), 1, value
	case n.is(".") && len(e) > 1 && e[1].isName(): // a field of what stood in parentheses
		return s.field(last, e[1].text), 2, suffix
	case n.is(".") && len(e) > 1 && e[1].is("*"):
		return last, 2, suffix
	}
	return flow{}, 1, joint
}

// field returns a column of a row. Of what is no row it is a part.
func (s *scope) field(f flow, name string) flow {
	g := flow{unclear: f.unclear}
	if how, ok := f.columns[name]; ok && how.whole {
		g.columns = map[string]carried{name: {limited: how.limited}}
	}
	return g
}

// typeLength returns how many nodes the type is that follows a ::.
func typeLength(e []node) int {
	i := min(1, len(e))
	for i+1 < len(e) && e[i].is(".") {
		i += 2
	}
	for i < len(e) && e[i].is("precision", "varying", "with", "without", "time", "zone") {
		i++
	}
	if i < len(e) && e[i].kind == group {
		i++
	}
	for i < len(e) && e[i].kind == brackets {
		i++
	}
	return i
}

// removed returns the keys that stand behind a minus, and how many nodes they take:
// 0 where it takes away something else.
func removed(e []node, path bool) (names []string, length int) {
	switch {
	case e[0].kind == text:
		names, length = strings.Split(strings.Trim(e[0].text, "{}"), ","), 1
	case e[0].is("array") && len(e) > 1 && e[1].kind == brackets:
		for _, item := range split(e[1].nodes, ",") {
			if len(item) > 0 && item[0].kind == text {
				names = append(names, item[0].text)
			}
		}
		length = 2
	default:
		return nil, 0
	}
	for i := range names {
		names[i] = strings.Trim(strings.TrimSpace(names[i]), `"`)
	}
	if path && len(names) != 1 {
		names = nil // a key of a key
	}
	if length < len(e) && e[length].is("::") {
		length += 1 + typeLength(e[length+1:])
	}
	return names, length
}

// chain returns names with points between them, perhaps with a * at the end.
func chain(e []node) (parts []string, length int) {
	parts, length = []string{e[0].text}, 1
	for length+1 < len(e) && e[length].is(".") && (e[length+1].isName() || e[length+1].is("*")) {
		parts = append(parts, e[length+1].text)
		length += 2
	}
	return parts, length
}

// isKeyword reports whether a word stands between values, or is a short one itself.
func isKeyword(n node) bool {
	return strings.HasPrefix(n.text, "tg_") || n.is("null", "true", "false", "current_date", "current_time", "current_timestamp", "localtime",
		"localtimestamp", "current_user", "session_user", "user", "current_role", "current_schema", "current_catalog", "both", "leading",
		"trailing", "from", "for", "distinct", "all", "variadic", "asc", "desc", "nulls", "interval", "at", "time", "zone", "collate", "on",
		"escape", "default", "using", "absent", "returning", "value", "lateral")
}

// reference follows a name, perhaps of a field.
func (s *scope) reference(n node, parts []string) flow {
	if n.is("new", "old") {
		if len(parts) == 1 || parts[1] == "*" {
			return s.row()
		}
		f := flow{columns: map[string]carried{parts[1]: {}}}
		if s.measures[canonical(referenceNodes(parts))] > unmeasured {
			f = s.doubtful(f)
		}
		return f
	}
	for len(parts) > 0 {
		if f, ok := s.variable(parts[0]); ok {
			if len(parts) > 1 && parts[1] != "*" && !s.hasFields(parts[0]) {
				return s.field(f, parts[1])
			}
			return f
		}
		parts = parts[1:] // a label, or the function's name
	}
	if len(s.tables) > 0 {
		return s.rows()
	}
	return flow{}
}

func referenceNodes(parts []string) []node {
	var nodes []node
	for i, part := range parts {
		if i > 0 {
			nodes = append(nodes, node{kind: operator, text: "."})
		}
		nodes = append(nodes, node{kind: word, text: part})
	}
	return nodes
}

// rows is what comes from tables.
func (s *scope) rows() flow {
	return flow{unclear: map[string]bool{"rows of " + strings.Join(s.tables, ", "): true}}
}

// hasFields reports whether a variable was given values field by field.
func (s *scope) hasFields(variable string) bool {
	return slices.ContainsFunc(s.assignments[variable], func(a assignment) bool { return a.field })
}

// variable follows a variable or a parameter, false if it is none.
func (s *scope) variable(name string) (f flow, ok bool) {
	if f, ok = s.busy[name]; ok {
		return f, true
	}
	bounded, declared := s.variables[name]
	value, given := s.given(name)
	switch {
	case bounded:
		return flow{}, true
	case !declared && !given:
		return flow{}, false
	case given:
		f = s.outer.expression(value)
	case len(s.assignments[name]) == 0:
		f.doubt("variable " + name)
	}
	for _, a := range s.assignments[name] {
		s.busy[name] = f
		g := s.expression(a.value)
		delete(s.busy, name)
		switch {
		case !isMentioned(a.value, name):
			f.add(g)
		case a.conditional: // what it takes away may still be there
			rest := flow{columns: maps.Clone(f.columns)}
			maps.DeleteFunc(rest.columns, func(c string, _ carried) bool { _, kept := g.columns[c]; return kept })
			f = g
			f.add(s.part(rest))
		default:
			f = g
		}
	}
	if s.measures[canonical([]node{{kind: word, text: name}})] > unmeasured {
		f = s.doubtful(f)
	}
	return f, true
}

// call follows the call of a function.
func (s *scope) call(name string, body []node) flow {
	arguments := split(body, ",")
	r, known := s.routines[name]
	switch {
	case name == "cast":
		e, kind := until(body, "as")
		if len(kind) > 0 && isBoundedType(kind[1:]) {
			return flow{}
		}
		return s.item(e)
	case slices.Contains([]string{"left", "right", "substr", "substring"}, name):
		if cuts(name, body, arguments) {
			return flow{}
		}
		return s.doubtful(s.expression(body))
	case keeps(name):
		return s.expression(body)
	case known && r.bounded || slices.Contains([]string{"md5", "json_typeof", "jsonb_typeof", "exists", "sha224", "sha256", "sha384", "sha512"}, name):
		return flow{}
	case known && r.builtin:
		f := s.part(s.expression(body))
		if slices.Contains([]string{"repeat", "lpad", "rpad", "current_setting", "current_query"}, name) {
			f.doubt(name + "()")
		}
		return f
	}
	f := s.part(s.expression(body))
	f.doubt(name + "()")
	return f
}

// cuts reports whether a call cuts a text to so little that it does not matter.
func cuts(name string, body []node, arguments [][]node) bool {
	const little = 1000
	last := arguments[len(arguments)-1]
	n := len(last)
	if n == 0 || !atMost(last[n-1], little) {
		return false
	}
	if n > 1 {
		return name == "substring" && last[n-2].is("for")
	}
	return len(arguments) == 2 && (name == "left" || name == "right") || len(arguments) == 3 && len(body) > 0
}

// keeps reports whether the result of a function has all that it was given.
func keeps(name string) bool {
	return slices.Contains([]string{
		"to_json", "to_jsonb", "row_to_json", "array_to_json", "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array",
		"json_object", "jsonb_object", "json_array", "json_arrayagg", "json_objectagg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg",
		"array_agg", "string_agg", "json_strip_nulls", "jsonb_strip_nulls", "jsonb_pretty", "jsonb_set", "jsonb_set_lax", "jsonb_insert",
		"hstore", "hstore_to_json", "hstore_to_jsonb", "coalesce", "nullif", "greatest", "least", "row", "concat", "concat_ws", "format",
		"array_append", "array_prepend", "array_cat", "array_to_string", "trim", "btrim", "ltrim", "rtrim", "lower", "upper", "initcap", "replace",
		"translate", "regexp_replace", "reverse", "encode", "decode", "convert", "convert_from", "convert_to", "quote_literal", "quote_ident",
		"quote_nullable", "text", "any_value", "min", "max", "unnest",
	}, name)
}
