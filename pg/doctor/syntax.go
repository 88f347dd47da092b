package doctor

import (
	"slices"
	"strings"
)

// nodeKind says what a node is.
type nodeKind byte

const (
	word     nodeKind = iota // a keyword or a name, in lower case; also $1
	name                     // a name in quotation marks
	text                     // a string, without its quotes
	number                   // without sign
	operator                 // also punctuation
	group                    // what stands in parentheses
	brackets                 // what stands in brackets
	branches                 // what a CASE may be, separated by commas
	opaque                   // what cannot be followed; the text says what it is
)

// node is a token of a source, or what stands in parentheses.
type node struct {
	kind  nodeKind
	text  string
	nodes []node
}

// is reports whether n is one of these words or operators.
func (n node) is(words ...string) bool {
	return (n.kind == word || n.kind == operator) && slices.Contains(words, n.text)
}

func (n node) isName() bool { return n.kind == word || n.kind == name }

// parse reads a source without comments. It takes anything: what is no SQL becomes
// nodes that mean nothing.
func parse(source string) []node {
	var all []node
	for source != "" {
		var nodes []node
		nodes, source = parseLevel(source)
		all = append(all, nodes...)
	}
	return all
}

// parseLevel reads up to a closing parenthesis, and returns what stands behind it.
func parseLevel(source string) (all []node, rest string) {
	for source = strings.TrimLeft(source, " \t\r\n\f"); source != ""; source = strings.TrimLeft(source, " \t\r\n\f") {
		switch source[0] {
		case '(', '[':
			n := node{kind: group}
			if source[0] == '[' {
				n.kind = brackets
			}
			n.nodes, source = parseLevel(source[1:])
			all = append(all, n)
		case ')', ']':
			return all, source[1:]
		default:
			n, length := parseToken(source)
			if n.kind == word && len(all) > 0 && all[len(all)-1].is(".") {
				n.kind = name // NEW.from is a column
			}
			all, source = append(all, n), source[length:]
		}
	}
	return all, ""
}

// parseToken returns the token that a source begins with, and its length there.
func parseToken(source string) (node, int) {
	c := source[0]
	length := 1
	switch {
	case c == '\'' || c == '"':
		length = quotedText(source)
		n := node{kind: text, text: strings.TrimSuffix(source[1:length], source[:1])}
		if c == '"' {
			n.kind = name
		}
		n.text = strings.ReplaceAll(n.text, source[:1]+source[:1], source[:1])
		return n, length
	case strings.IndexByte(operatorBytes, c) >= 0:
		length = operatorLength(source)
	case c == ':' && len(source) > 1 && (source[1] == ':' || source[1] == '='):
		length = 2
	case isDigit(c):
		length = span(source, isDigit)
		if rest := source[length:]; len(rest) > 1 && rest[0] == '.' && isDigit(rest[1]) {
			length += 1 + span(rest[1:], isDigit)
		}
		return node{kind: number, text: source[:length]}, length
	case c == '$':
		return parseDollar(source)
	case isLetter(c):
		length = span(source, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '$' })
		if rest := source[length:]; length == 1 && strings.HasPrefix(rest, "'") && strings.ContainsAny(source[:1], "ebnxEBNX") {
			n, l := parseToken(rest)
			return n, length + l
		}
		return node{kind: word, text: strings.ToLower(source[:length])}, length
	}
	return node{kind: operator, text: source[:length]}, length
}

// parseDollar reads what begins with a dollar: $1, or a string in $$ or $tag$.
func parseDollar(source string) (node, int) {
	if length := 1 + span(source[1:], isDigit); length > 1 {
		return node{kind: word, text: source[:length]}, length
	}
	end := 1 + span(source[1:], func(c byte) bool { return isLetter(c) || isDigit(c) })
	if end == len(source) || source[end] != '$' {
		return node{kind: operator, text: "$"}, 1
	}
	tag := source[:end+1]
	body, _, _ := strings.Cut(source[len(tag):], tag)
	return node{kind: text, text: body}, min(len(tag)+len(body)+len(tag), len(source))
}

// span returns how many bytes a text begins with of which is is true.
func span(text string, is func(byte) bool) int {
	n := 0
	for n < len(text) && is(text[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isLetter reports whether a name may begin with a byte: any that is not ASCII.
func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80 }

const operatorBytes = "+-*/<>=~!@#%^&|?`"

// operatorLength returns the length of the operator that a source begins with: as
// long as possible, but + and - end one only that has a rarer character in it.
func operatorLength(source string) int {
	length := span(source, func(c byte) bool { return strings.IndexByte(operatorBytes, c) >= 0 })
	for length > 1 && strings.IndexByte("+-", source[length-1]) >= 0 && !strings.ContainsAny(source[:length], "~!@#%^&|?`") {
		length--
	}
	return length
}

// split splits nodes at an operator.
func split(nodes []node, at string) [][]node {
	var all [][]node
	for {
		i := slices.IndexFunc(nodes, func(n node) bool { return n.is(at) })
		if i < 0 {
			return append(all, nodes)
		}
		all, nodes = append(all, nodes[:i]), nodes[i+1:]
	}
}

// after returns what stands behind a word that is not in a CASE.
func after(nodes []node, word string) []node {
	depth := 0
	for i, n := range nodes {
		switch {
		case n.is(word) && depth == 0:
			return nodes[i+1:]
		case n.is("case"):
			depth++
		case n.is("end"):
			depth--
		}
	}
	return nil
}

// until returns the nodes before the first of these words, and those from it on.
func until(nodes []node, words ...string) (before, from []node) {
	i := slices.IndexFunc(nodes, func(n node) bool { return n.is(words...) })
	if i < 0 {
		return nodes, nil
	}
	return nodes[:i], nodes[i:]
}

// canonical returns nodes as they would be written anywhere.
func canonical(nodes []node) string {
	var b strings.Builder
	for _, n := range nodes {
		b.WriteByte(' ')
		switch n.kind {
		case text:
			b.WriteString("'" + n.text + "'")
		case group, branches:
			b.WriteString("(" + canonical(n.nodes) + " )")
		case brackets:
			b.WriteString("[" + canonical(n.nodes) + " ]")
		case word, name, number, operator, opaque:
			b.WriteString(n.text)
		}
	}
	return b.String()
}

// bare returns an expression without what changes nothing of its size: parentheses
// and casts to text and JSON.
func bare(e []node) []node {
	for {
		n := len(e)
		switch {
		case n == 1 && e[0].kind == group:
			e = e[0].nodes
		case n > 2 && e[n-2].is("::") && e[n-1].is("text", "json", "jsonb", "varchar"):
			e = e[:n-2]
		case n == 2 && e[0].is("cast") && e[1].kind == group && isTextCast(e[1].nodes):
			e = e[1].nodes[:len(e[1].nodes)-2]
		default:
			return e
		}
	}
}

func isTextCast(e []node) bool {
	n := len(e)
	return n > 2 && e[n-2].is("as") && e[n-1].is("text", "json", "jsonb", "varchar")
}

// withCases returns an expression in which every CASE is one node.
func withCases(e []node) []node {
	var all []node
	for i := 0; i < len(e); i++ {
		if !e[i].is("case") {
			all = append(all, e[i])
			continue
		}
		n := node{kind: branches}
		depth, sent := 0, false // sent: behind THEN or ELSE, not in a condition
	cases:
		for i++; i < len(e); i++ {
			switch {
			case e[i].is("end") && depth == 0:
				break cases
			case e[i].is("when") && depth == 0:
				sent = false
				continue
			case e[i].is("then", "else") && depth == 0:
				sent = true
				n.nodes = append(n.nodes, node{kind: operator, text: ","})
				continue
			case e[i].is("case"):
				depth++
			case e[i].is("end"):
				depth--
			}
			if sent {
				n.nodes = append(n.nodes, e[i])
			}
		}
		all = append(all, n)
	}
	return all
}

// isCondition reports whether an expression is true or false.
func isCondition(e []node) bool {
	return slices.ContainsFunc(e, func(n node) bool {
		return n.is("=", "<>", "!=", "<", ">", "<=", ">=", "~", "~*", "!~", "!~*", "@>", "<@", "?", "?|", "?&", "&&", "@@", "@?",
			"is", "and", "or", "not", "in", "like", "ilike", "between", "similar", "isnull", "notnull", "exists")
	})
}

// isBoundedType reports whether the values of a type are all short. Types that are
// not known are not.
func isBoundedType(e []node) bool {
	if len(e) > 2 && e[1].is(".") {
		e = e[2:]
	}
	if len(e) == 0 || e[len(e)-1].kind == brackets {
		return false
	}
	if e[0].is("varchar", "char", "character", "bpchar") {
		last := e[len(e)-1]
		return last.kind == group && len(last.nodes) == 1 && atMost(last.nodes[0], 4000) // as for columns
	}
	return e[0].is("smallint", "int", "integer", "bigint", "int2", "int4", "int8", "boolean", "bool", "uuid", "date", "time", "timetz",
		"timestamp", "timestamptz", "interval", "real", "float", "float4", "float8", "double", "numeric", "decimal", "money", "oid",
		"name", "regclass", "regtype", "regproc", "inet", "cidr", "macaddr")
}
