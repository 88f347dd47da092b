package doctor

import (
	"slices"
	"strconv"
)

// program is a function as it is needed to follow what it sends.
type program struct {
	nodes []node
	// variables are those that are declared; true: of a type whose values are short.
	variables   map[string]bool
	assignments map[string][]assignment
	// measures are the expressions whose length is compared with something.
	measures map[string]measure
	sends    []send

	declaring bool
	blocks    []string // what the statement that is read stands in
}

// assignment gives a variable a value.
type assignment struct {
	value       []node
	conditional bool // not whenever the function runs
	field       bool // only a part of it
}

// measure says what is known of an expression whose length is compared.
type measure int

const (
	unmeasured measure = iota
	measured           // somehow
	limited            // in bytes, and with what a NOTIFY can take
)

// send is a call of pg_notify.
type send struct {
	payload, from []node // from: of the statement
}

func newProgram(source string) *program {
	p := &program{
		nodes: parse(source), variables: make(map[string]bool),
		assignments: make(map[string][]assignment), measures: make(map[string]measure),
	}
	for _, s := range split(p.nodes, ";") {
		p.statement(s)
		p.calls(s)
	}
	return p
}

// statement takes a statement with the beginnings of those that it stands in.
func (p *program) statement(s []node) {
	for len(s) > 0 {
		switch first := s[0]; {
		case first.is("<<") && len(s) > 3:
			s = s[3:]
			continue
		case first.is("declare"):
			p.declaring = true
		case first.is("begin"):
			p.declaring = false
			p.blocks = append(p.blocks, first.text)
		case first.is("exception") && !p.declaring && len(p.blocks) > 0:
			p.blocks[len(p.blocks)-1] = first.text
		case first.is("else"):
		case first.is("if", "case"):
			p.blocks = append(p.blocks, first.text)
			s = after(s[1:], "then")
			continue
		case first.is("elsif", "elseif", "when"):
			s = after(s[1:], "then")
			continue
		case first.is("for", "foreach", "while", "loop"):
			p.blocks = append(p.blocks, first.text)
			p.loop(s)
			s = after(s, "loop")
			continue
		case first.is("end"):
			p.blocks = p.blocks[:max(len(p.blocks)-1, 0)]
			return
		case p.declaring:
			p.declare(s)
			return
		default:
			p.simple(s)
			return
		}
		s = s[1:]
	}
}

// loop takes the variables of FOR and FOREACH.
func (p *program) loop(s []node) {
	targets, values := until(s, "in")
	if len(values) == 0 || !s[0].is("for", "foreach") {
		return
	}
	values, _ = until(values[1:], "loop")
	if len(values) > 0 && values[0].is("array") && s[0].is("foreach") {
		values = values[1:]
	}
	if len(values) > 0 && values[0].is("execute") {
		values = []node{{kind: opaque, text: "EXECUTE"}}
	}
	for _, target := range targets[1:] {
		if target.isName() {
			// A loop over numbers declares its variable by itself.
			if _, ok := p.variables[target.text]; !ok {
				p.variables[target.text] = false
			}
			p.assign(target.text, values, false)
		}
	}
}

func (p *program) declare(s []node) {
	if !s[0].isName() {
		return
	}
	kind, value := until(s[1:], ":=", "=", "default", "for")
	if len(kind) > 0 && kind[0].is("constant") {
		kind = kind[1:]
	}
	kind, _ = until(kind, "not", "collate")
	p.variables[s[0].text] = isBoundedType(kind)
	if len(value) > 1 {
		p.assign(s[0].text, value[1:], false)
	}
}

// simple takes a statement that contains no other.
func (p *program) simple(s []node) {
	i := 1
	for i+1 < len(s) && (s[i].is(".") && s[i+1].isName() || s[i].kind == brackets) {
		if i++; s[i-1].is(".") {
			i++
		}
	}
	if i < len(s) && s[0].isName() && s[i].is(":=", "=") {
		p.assign(s[0].text, s[i+1:], i > 1)
		return
	}
	if s[0].is("get") {
		for i := range s[1:] {
			if s[i+1].is("=", ":=") {
				p.assign(s[i].text, []node{{kind: opaque, text: "GET DIAGNOSTICS"}}, false)
			}
		}
		return
	}
	p.into(s)
}

// into takes the variables behind INTO.
func (p *program) into(s []node) {
	at := len(s) - 1
	for at >= 0 && !s[at].is("into") {
		at--
	}
	if at < 0 || s[0].is("insert") && at == 1 {
		return
	}
	end := at + 1
	if end < len(s) && s[end].is("strict") {
		end++
	}
	var targets []string
	for ; end < len(s) && s[end].isName(); end++ {
		targets = append(targets, s[end].text)
		for end+2 < len(s) && s[end+1].is(".") {
			end += 2
		}
		if end++; end == len(s) || !s[end].is(",") {
			break
		}
	}
	if !s[0].is("select", "with") {
		for _, target := range targets {
			p.assign(target, []node{{kind: opaque, text: s[0].text}}, false)
		}
		return
	}
	query := slices.Concat(s[:at], s[min(end, len(s)):])
	list, rest := until(query, "from")
	items := split(list[1:], ",")
	for i, target := range targets {
		value := query
		if len(items) == len(targets) && s[0].is("select") {
			value = slices.Concat(list[:1], items[i], rest)
		}
		p.assign(target, value, false)
	}
}

func (p *program) assign(variable string, value []node, field bool) {
	conditional := slices.ContainsFunc(p.blocks, func(block string) bool { return block != "begin" })
	p.assignments[variable] = append(p.assignments[variable], assignment{value, conditional, field})
}

// calls takes the calls of pg_notify, and of what measures.
func (p *program) calls(level []node) {
	for i, n := range level {
		if len(n.nodes) > 0 {
			p.calls(n.nodes)
		}
		if i+1 == len(level) || level[i+1].kind != group || !n.isName() {
			continue
		}
		arguments := split(level[i+1].nodes, ",")
		switch n.text {
		case "pg_notify":
			if len(arguments) > 1 {
				p.sends = append(p.sends, send{arguments[1], fromClause(level)})
			}
		case "octet_length", "length", "char_length", "character_length", "pg_column_size":
			of := canonical(bare(level[i+1].nodes))
			p.measures[of] = max(p.measures[of], measureAt(level, i))
		}
	}
}

// measureAt judges the call of a function at level[i] that measures: what NOTIFY
// takes is counted in bytes, and 8000 are too many.
func measureAt(level []node, i int) measure {
	if rest := level[i+2:]; len(rest) > 0 && rest[0].is("<", "<=", ">", ">=", "=", "between") {
		if level[i].text != "octet_length" || len(rest) < 2 {
			return measured
		}
		const shortest = 100 // more than a smaller number is no limit
		switch limit := rest[1]; {
		case rest[0].is("<") && atMost(limit, 8000), rest[0].is("<=") && atMost(limit, 7999),
			rest[0].is(">") && atMost(limit, 7999) && !atMost(limit, shortest), rest[0].is(">=") && atMost(limit, 8000) && !atMost(limit, shortest):
			return limited
		}
		return measured
	}
	if i > 1 && level[i-1].is(".") { // pg_catalog
		i -= 2
	}
	if i > 0 && level[i-1].is("<", "<=", ">", ">=", "=", ":=") {
		return measured
	}
	return unmeasured
}

func atMost(n node, most int) bool {
	value, err := strconv.Atoi(n.text)
	return n.kind == number && err == nil && value <= most
}

// fromClause returns what stands behind FROM.
func fromClause(level []node) []node {
	for i, n := range level {
		if n.is("from") && (i == 0 || !level[i-1].is("distinct")) {
			from, _ := until(level[i+1:], "where", "group", "having", "order", "limit", "offset", "window", "fetch", "for", "loop", "then")
			return from
		}
	}
	return nil
}

// callsOf returns the arguments of every call of a function.
func callsOf(level []node, function string) [][][]node {
	var all [][][]node
	for i, n := range level {
		if n.isName() && n.text == function && i+1 < len(level) && level[i+1].kind == group {
			all = append(all, split(level[i+1].nodes, ","))
		}
		all = append(all, callsOf(n.nodes, function)...)
	}
	return all
}

// isMentioned reports whether a name stands in an expression.
func isMentioned(e []node, name string) bool {
	return slices.ContainsFunc(e, func(n node) bool { return n.isName() && n.text == name || isMentioned(n.nodes, name) })
}
