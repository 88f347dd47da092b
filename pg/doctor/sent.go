package doctor

import (
	"maps"
	"slices"
)

// sent is what the payloads of a trigger have.
type sent struct {
	flow
	// opaque: a payload may have members that cannot be seen. list: one is an array.
	// object: one is not.
	opaque, list, object bool
}

// follow finds out what a trigger sends.
func (t *trigger) follow(routines map[string]routine) {
	if language := t.function.language; language != "plpgsql" && language != "sql" {
		t.sent.opaque = true
		t.sent.doubt("written in " + language)
		return
	}
	outer := t.scope(newProgram(t.function.source), routines)
	calls := outer.send(&t.sent)
	for _, f := range t.senders {
		inner := newProgram(f.source)
		for _, arguments := range callsOf(outer.nodes, f.call) {
			s := t.scope(inner, routines)
			s.outer = outer
			s.given = func(parameter string) ([]node, bool) { return f.given(parameter, arguments) }
			calls += s.send(&t.sent)
		}
	}
	if calls == 0 && len(notifyStatements(t.source)) == 0 { // only in a string
		t.sent.opaque = true
		t.sent.doubt("EXECUTE")
	}
}

func (t *trigger) scope(p *program, routines map[string]routine) *scope {
	return &scope{
		program: p, columns: t.columns, routines: routines, busy: make(map[string]flow), named: make(map[string]bool),
		given: func(string) ([]node, bool) { return nil, false },
	}
}

// given returns the argument that a call gives a parameter.
func (f *function) given(parameter string, arguments [][]node) ([]node, bool) {
	i := f.parameter(parameter)
	if i < 0 {
		return nil, false
	}
	for _, a := range arguments {
		if len(a) > 2 && a[0].isName() && a[1].is("=>", ":=") && a[0].text == parameter {
			return a[2:], true
		}
	}
	if i >= len(arguments) {
		return nil, true // its default
	}
	return arguments[i], true
}

// send adds what the scope's own calls of pg_notify send, and returns how many there
// are.
func (s *scope) send(all *sent) int {
	for _, call := range s.sends {
		s.tables = s.from(call.from, &all.flow)
		all.include(s.payload(call.payload, nil))
		s.tables = nil
	}
	return len(s.sends)
}

func (all *sent) include(one sent) {
	all.add(one.flow)
	all.opaque = all.opaque || one.opaque
	all.list = all.list || one.list
	all.object = all.object || one.object
}

// payload follows what is a payload as a whole. Where that is measured, its parts
// need not be.
func (s *scope) payload(e []node, seen []string) (all sent) {
	e = bare(e)
	if m := s.measures[canonical(e)]; m > unmeasured {
		defer func() {
			if m == limited {
				all.flow = limit(all.flow)
			} else {
				all.flow = s.doubtful(all.flow)
			}
		}()
	}
	if len(e) == 1 && e[0].isName() && !slices.Contains(seen, e[0].text) {
		name := e[0].text
		if value, ok := s.given(name); ok && len(s.assignments[name]) == 0 {
			return s.outer.payload(value, nil)
		}
		values := s.assignments[name]
		whole := len(values) > 0 && !s.variables[name] && !slices.ContainsFunc(values, func(a assignment) bool { return a.field || isMentioned(a.value, name) })
		if whole {
			for _, a := range values {
				all.include(s.payload(a.value, append(seen, name)))
			}
			return all
		}
	}
	if cases := withCases(e); len(cases) == 1 && cases[0].kind == branches {
		for _, branch := range split(cases[0].nodes, ",") {
			all.include(s.payload(branch, seen))
		}
		return all
	}
	all.flow = s.expression(e)
	shape := e
	if len(shape) > 0 && shape[0].is("select") {
		shape = bare(beforeFrom(shape[1:]))
	}
	made := func(by ...string) bool { return len(shape) == 2 && shape[1].kind == group && shape[0].is(by...) }
	all.list = made("json_agg", "jsonb_agg", "array_to_json", "json_build_array", "jsonb_build_array")
	all.object = !all.list
	all.opaque = !made("json_build_object", "jsonb_build_object") && (len(all.unclear) > 0 || s.isDocument(all.flow))
	return all
}

// isDocument reports whether a column that may be JSON itself is in a flow.
func (s *scope) isDocument(f flow) bool {
	for c, how := range f.columns {
		if !how.whole && s.isUnbounded(c) {
			return true
		}
	}
	return false
}

// unbounded returns the columns of any size that get into a payload, and what may be
// of any size. A text counts as a document where the row is sent as a whole: then
// nobody chose it.
func (t *trigger) unbounded() (documents, texts, unclear []string) {
	for _, c := range t.columns {
		how, ok := t.sent.columns[c.name]
		switch {
		case !ok || !c.unbounded || how.limited:
		case c.document || how.whole:
			documents = append(documents, c.name)
		default:
			texts = append(texts, c.name)
		}
	}
	return documents, texts, slices.Sorted(maps.Keys(t.sent.unclear))
}
