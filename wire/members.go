package wire

import (
	"bytes"
	"encoding/json"
	"iter"
)

// Members yields names and values of the JSON object in b, in their order, equal
// names included, and nothing where b is no object. b must be as Compact leaves
// it: it is not checked again, and what is yielded is part of it.
func Members(b []byte) iter.Seq2[[]byte, json.RawMessage] {
	return func(yield func([]byte, json.RawMessage) bool) {
		if !IsObject(b) || b[1] == '}' {
			return
		}
		for b[0] != '}' {
			b = b[1:] // past "{" or ","
			end := valueEnd(b)
			name := b[1 : end-1]
			if bytes.IndexByte(name, '\\') >= 0 {
				text, _ := ParseString(b[:end])
				name = []byte(text)
			}
			b = b[end+1:] // past ":"
			end = valueEnd(b)
			if !yield(name, json.RawMessage(b[:end:end])) {
				return
			}
			b = b[end:]
		}
	}
}

// IsObject reports whether what Compact left is an object.
func IsObject(b []byte) bool { return len(b) > 0 && b[0] == '{' }

// valueEnd returns the length of the value that b begins with, as Compact leaves
// it.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringEnd(b[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 { // of what the value is in
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(b)
}

// stringEnd returns the length of the JSON string that b begins with.
func stringEnd(b []byte) int {
	for i := 1; ; {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			return len(b)
		}
		i += quote + 1
		escapes := 0
		for b[i-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// ParseString decodes a JSON string; ok is false where b is none. Nearly all are plain.
func ParseString(b []byte) (s string, ok bool) {
	if len(b) < 2 || b[0] != '"' {
		return "", false
	}
	plain := b[1 : len(b)-1]
	for _, c := range plain {
		if c == '\\' || c == '"' || c < 0x20 || c >= 0x80 {
			err := json.Unmarshal(b, &s)
			return s, err == nil
		}
	}
	return string(plain), true
}
