package live

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ident quotes a name, qualified if there are several.
func ident(names ...string) string { return pgx.Identifier(names).Sanitize() }

// literal quotes a text. A backslash stays one whatever standard_conforming_strings
// says, in this session or in the one that runs a trigger.
func literal(s string) string {
	quoted := "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", "''") + "'"
	if strings.Contains(quoted, `\`) {
		quoted = "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// dollarTag returns a dollar quote that none of the texts contains.
func dollarTag(texts ...string) string {
	all := strings.Join(texts, "\n")
	for i := 0; ; i++ {
		if tag := fmt.Sprintf("$attune%d$", i); !strings.Contains(all, tag) {
			return tag
		}
	}
}
