package http

import "syscall"

// yieldCore lets whoever waits for this core go first, whom Linux would have wait for
// milliseconds.
func yieldCore() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
