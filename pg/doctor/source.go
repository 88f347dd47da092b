package doctor

import (
	"regexp"
	"strings"
)

// The source of a function is read as text, not as a program: what is found is what
// stands there, and a source that hides it (EXECUTE of a built string, another
// language) is not understood.

// uncommented returns the source of a function with its comments blanked. Strings
// stay as they are.
func uncommented(source string) string {
	var b strings.Builder
	for i := 0; i < len(source); {
		rest := source[i:]
		n := 1
		switch {
		case strings.HasPrefix(rest, "--"):
			n = strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			b.WriteByte(' ')
		case strings.HasPrefix(rest, "/*"):
			n = blockComment(rest)
			b.WriteByte(' ')
		case rest[0] == '\'' || rest[0] == '"':
			n = quotedText(rest)
			b.WriteString(rest[:n])
		default:
			b.WriteByte(rest[0])
		}
		i += n
	}
	return b.String()
}

// blockComment returns the length of the comment that text begins with; they nest.
func blockComment(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "/*"):
			depth++
			i++
		case strings.HasPrefix(text[i:], "*/"):
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// quotedText returns the length of the string or quoted name that text begins with.
func quotedText(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] != text[0] {
			continue
		}
		if i+1 < len(text) && text[i+1] == text[0] {
			i++
			continue
		}
		return i + 1
	}
	return len(text)
}

// calls returns the arguments of every call of a function in a source without
// comments.
func calls(source, function string) [][]string {
	name := regexp.MustCompile(`(?i)(?:^|[^\w"])"?` + regexp.QuoteMeta(function) + `"?\s*\(`)
	var all [][]string
	for _, at := range name.FindAllStringIndex(source, -1) {
		all = append(all, arguments(source[at[1]:]))
	}
	return all
}

// arguments splits what follows an opening parenthesis, up to its closing one.
func arguments(text string) []string {
	var all []string
	depth, begin := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\'', '"':
			i += quotedText(text[i:]) - 1
		case '(', '[':
			depth++
		case ')', ']':
			if depth == 0 {
				return append(all, strings.TrimSpace(text[begin:i]))
			}
			depth--
		case ',':
			if depth == 0 {
				all = append(all, strings.TrimSpace(text[begin:i]))
				begin = i + 1
			}
		}
	}
	return append(all, strings.TrimSpace(text[begin:]))
}

// literal returns the value of a string constant, perhaps with a cast.
func literal(expression string) (value string, ok bool) {
	if !strings.HasPrefix(expression, "'") {
		return "", false
	}
	n := quotedText(expression)
	rest := strings.TrimSpace(expression[n:])
	if n < 2 || rest != "" && !strings.HasPrefix(rest, "::") {
		return "", false
	}
	return strings.ReplaceAll(expression[1:n-1], "''", "'"), true
}

// notifyStatements returns the channels of the source's NOTIFY statements.
func notifyStatements(source string) []string {
	statement := regexp.MustCompile(`(?i)(?:^|;|\bbegin|\bthen|\belse|\bloop)\s*notify\s+("(?:[^"]|"")+"|[a-z_][\w$]*)`)
	var channels []string
	for _, m := range statement.FindAllStringSubmatch(source, -1) {
		name := strings.ToLower(m[1])
		if strings.HasPrefix(m[1], `"`) {
			name = strings.ReplaceAll(m[1][1:len(m[1])-1], `""`, `"`)
		}
		channels = append(channels, name)
	}
	return channels
}

// forgiving reports whether the source catches errors: then a payload that is too
// large is lost, but the write goes through.
func forgiving(source string) bool {
	return regexp.MustCompile(`(?i)\bexception\s+when\b`).MatchString(source)
}

// mentions reports whether a name stands in the source.
func mentions(source, name string) bool {
	return regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(name) + `\b`).MatchString(source)
}
