package pg

import "strings"

// Explain splits an error of this package into what went wrong and what to do about
// it; the latter is "" where there is nothing to say.
func Explain(err error) (problem, todo string) {
	todo = remedy(err)
	return strings.TrimSuffix(err.Error(), todo), strings.TrimPrefix(todo, ": ")
}
