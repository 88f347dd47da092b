package doctor

import (
	"slices"
	"strings"
)

// What a query of a payload returns, from its list and from the tables and queries that
// it reads.

// query follows what a query returns.
func (s *scope) query(e []node) flow {
	var all flow
	if e[0].is("with") {
		e = s.with(e[1:], &all)
	}
	for len(e) > 0 {
		var one []node
		one, e = until(e, "union", "except", "intersect")
		if len(e) > 0 {
			if e = e[1:]; len(e) > 0 && e[0].is("all", "distinct") {
				e = e[1:]
			}
		}
		if len(one) == 0 {
			continue
		}
		if !one[0].is("select") {
			if one[0].is("values") {
				one = one[1:]
			}
			all.add(s.expression(one))
			continue
		}
		before := s.tables
		s.tables = append(slices.Clone(before), s.from(fromClause(one), &all)...)
		list, _ := until(one[1:], "where", "group", "having", "order", "limit", "offset", "window", "fetch")
		all.add(s.expression(beforeFrom(list)))
		s.tables = before
	}
	return all
}

// beforeFrom returns what stands before FROM.
func beforeFrom(level []node) []node {
	for i, n := range level {
		if n.is("from") && (i == 0 || !level[i-1].is("distinct")) {
			return level[:i]
		}
	}
	return level
}

// with follows the queries behind WITH, and returns what follows them.
func (s *scope) with(e []node, all *flow) []node {
	for len(e) > 0 && !e[0].is("select", "values", "insert", "update", "delete") {
		switch {
		case e[0].kind == group && len(e[0].nodes) > 0 && e[0].nodes[0].is("select", "with", "values"):
			all.add(s.expression(e[0].nodes))
		case e[0].isName():
			s.named[e[0].text] = true
		}
		e = e[1:]
	}
	return e
}

// from follows the queries and functions behind FROM, and returns the tables there.
func (s *scope) from(e []node, all *flow) (tables []string) {
	expected := true // a table, a query or a function
	for i := 0; i < len(e); {
		n := e[i]
		switch {
		case n.is(",") || n.is("join"):
			expected = true
		case !expected || n.is("lateral", "only"):
		case n.kind == group:
			expected = false
			if len(n.nodes) > 0 && n.nodes[0].is("select", "with", "values") {
				all.add(s.expression(n.nodes))
			} else {
				tables = append(tables, s.from(n.nodes, all)...)
			}
		case n.isName():
			expected = false
			parts, length := chain(e[i:])
			i += length
			if i < len(e) && e[i].kind == group {
				all.add(s.call(parts[len(parts)-1], e[i].nodes))
				i++
			} else if !s.named[parts[0]] {
				tables = append(tables, strings.Join(parts, "."))
			}
			continue
		}
		i++
	}
	return tables
}
