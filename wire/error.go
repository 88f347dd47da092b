package wire

// Code is a stable name for what went wrong, the same on every transport.
type Code string

// The codes of error frames and of problem+json answers.
const (
	CodeInvalidJSON      Code = "invalid_json"
	CodeUnknownType      Code = "unknown_type"
	CodeInvalidFilter    Code = "invalid_filter"
	CodeForbidden        Code = "forbidden"
	CodeTooManyFilters   Code = "too_many_filters"
	CodeCursorNotFirst   Code = "cursor_not_first"
	CodeInvalidParameter Code = "invalid_parameter"
	CodeUnknownAction    Code = "unknown_action"
	CodeNotFound         Code = "not_found"
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeReadOnly         Code = "read_only"
	CodeNoExecutions     Code = "no_executions"
	CodeAlreadyTerminal  Code = "already_terminal"
	CodeUnauthenticated  Code = "unauthenticated"
	CodeTooLarge         Code = "too_large"
	CodeOverCapacity     Code = "over_capacity"
	CodeNotReady         Code = "not_ready"
	CodeInternal         Code = "internal"
)

// Error is what a client is told when something went wrong. As a message it
// answers a frame that was refused. The cause stays on the server: it is logged,
// never sent.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Err     error  `json:"-"`
}

func (*Error) serverMessage() string { return "error" }

// Error returns the code, the message and the cause.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// GapError says that notifications may be missing, and why.
type GapError struct{ Reason GapReason }

// Error returns the reason.
func (e *GapError) Error() string { return "notifications may be missing: " + string(e.Reason) }
