package main

import "flag"

// update has tests rewrite what they compare with.
//
//nolint:gochecknoglobals // a flag must be there before the tests are
var update = flag.Bool("update", false, "rewrite the README's table of settings")
