package wire

import (
	"encoding/json"
	"time"
)

// Status is where an execution stands.
type Status string

// The statuses of an execution, in the order in which it passes through them.
const (
	StatusRequested  Status = "requested"
	StatusScheduling Status = "scheduling"
	StatusScheduled  Status = "scheduled"
	StatusRunning    Status = "running"
	StatusCompleted  Status = "completed"
	StatusFailed     Status = "failed"
	StatusCanceling  Status = "canceling"
	StatusCancelled  Status = "cancelled"
	StatusTimeout    Status = "timeout"
	StatusAbandoned  Status = "abandoned"
)

// Statuses lists every status that the product writes.
func Statuses() []Status {
	return []Status{
		StatusRequested, StatusScheduling, StatusScheduled, StatusRunning, StatusCompleted,
		StatusFailed, StatusCanceling, StatusCancelled, StatusTimeout, StatusAbandoned,
	}
}

// Known reports whether s is one of Statuses.
func (s Status) Known() bool {
	switch s {
	case StatusRequested, StatusScheduling, StatusScheduled, StatusRunning, StatusCompleted,
		StatusFailed, StatusCanceling, StatusCancelled, StatusTimeout, StatusAbandoned:
		return true
	}
	return false
}

// Canonical returns s with other servers' spellings replaced by ours.
func (s Status) Canonical() Status {
	switch string(s) { // none of them is a Status of ours
	case "succeeded":
		return StatusCompleted
	case "canceled":
		return StatusCancelled
	case "timed_out":
		return StatusTimeout
	}
	return s
}

// Terminal reports whether an execution in s will not change again. An unknown
// status is not terminal: whoever waits reads on.
func (s Status) Terminal() bool {
	switch s.Canonical() {
	case StatusCompleted, StatusFailed, StatusCancelled, StatusTimeout, StatusAbandoned:
		return true
	case StatusRequested, StatusScheduling, StatusScheduled, StatusRunning, StatusCanceling:
	}
	return false
}

// Execution is one run of an action.
type Execution struct {
	ID        int64  `json:"id"`
	ActionRef string `json:"action_ref"`
	// Parameters is the column config.
	Parameters json.RawMessage `json:"parameters"`
	Parent     *int64          `json:"parent"`
	// Executor is the identity that asked for the execution.
	Executor  *int64          `json:"executor"`
	Status    Status          `json:"status"`
	Result    json.RawMessage `json:"result"`
	Created   time.Time       `json:"created"`
	StartedAt *time.Time      `json:"started_at"`
	Updated   time.Time       `json:"updated"`
}

// ExecutionList is a page of executions, newest first. NextBefore is the "before"
// of the next page, nil at the end.
type ExecutionList struct {
	Items      []Execution `json:"items"`
	NextBefore *int64      `json:"next_before"`
}

// ExecutionQuery asks for a page of executions, newest first. The zero value of a
// field does not filter. Limit is the length of the page; Before is the id that all
// of its executions are below. Brief leaves out Parameters and Result, which may be
// large.
type ExecutionQuery struct {
	Status    Status
	ActionRef string
	Parent    *int64
	Limit     int
	Before    *int64
	Brief     bool
	// VisibleTo leaves out what belongs to an executor other than this one.
	VisibleTo *int64
}

// ExecutionRequest asks for an execution.
type ExecutionRequest struct {
	ActionRef  string          `json:"action_ref"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	// Executor is who asks for it; the server says so, not the request.
	Executor *int64 `json:"-"`
}
