package cli

import (
	"fmt"
	"strconv"
	"time"
)

// timeoutFlag is a flag that takes a duration or whole seconds.
type timeoutFlag time.Duration

// longestTimeout keeps whole seconds within a time.Duration.
const longestTimeout = 365 * 24 * time.Hour

// String returns the duration as it is written.
func (t *timeoutFlag) String() string { return time.Duration(*t).String() }

// Type names the kind of value in the help.
func (t *timeoutFlag) Type() string { return "duration" }

// Set parses 90s, 1m30s or 90.
func (t *timeoutFlag) Set(s string) error {
	d, err := time.ParseDuration(s)
	if seconds, errInt := strconv.ParseInt(s, 10, 32); errInt == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > longestTimeout {
		return fmt.Errorf("want a duration such as 90s or 1m30s, or whole seconds, from 0 to %s", longestTimeout)
	}
	*t = timeoutFlag(d)
	return nil
}

// parseID parses the id of an execution.
func parseID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id <= 0 {
		return 0, usagef("execution %q: want its id, a number such as 51", s)
	}
	return id, nil
}

// parseIDs parses the ids of executions.
func parseIDs(args []string) ([]int64, error) {
	ids := make([]int64, len(args))
	for i, s := range args {
		id, err := parseID(s)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}
