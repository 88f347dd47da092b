//go:build !linux

package http

// yieldCore leaves it to the system, which of those that wait for a core has it next.
func yieldCore() {}
