package wire_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/wire"
)

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		status    wire.Status
		known     bool
		terminal  bool
		canonical wire.Status
	}{
		{"requested", true, false, "requested"},
		{"scheduling", true, false, "scheduling"},
		{"scheduled", true, false, "scheduled"},
		{"running", true, false, "running"},
		{"completed", true, true, "completed"},
		{"failed", true, true, "failed"},
		{"canceling", true, false, "canceling"},
		{"cancelled", true, true, "cancelled"},
		{"timeout", true, true, "timeout"},
		{"abandoned", true, true, "abandoned"},
		// Other servers' spellings.
		{"succeeded", false, true, "completed"},
		{"canceled", false, true, "cancelled"},
		{"timed_out", false, true, "timeout"},
		// What is not known is not terminal.
		{"", false, false, ""},
		{"paused", false, false, "paused"},
		{"Completed", false, false, "Completed"},
		{"COMPLETED", false, false, "COMPLETED"},
		{"completed ", false, false, "completed "},
		{"cancelling", false, false, "cancelling"},
		{"timedout", false, false, "timedout"},
	} {
		if got := tc.status.Known(); got != tc.known {
			t.Errorf("%q: Known() = %t", tc.status, got)
		}
		if got := tc.status.Terminal(); got != tc.terminal {
			t.Errorf("%q: Terminal() = %t", tc.status, got)
		}
		if got := tc.status.Canonical(); got != tc.canonical {
			t.Errorf("%q: Canonical() = %q", tc.status, got)
		}
	}
}

func TestStatuses(t *testing.T) {
	for _, s := range wire.Statuses() {
		if !s.Known() || s.Canonical() != s {
			t.Errorf("%q is listed, yet Known is %t and Canonical is %q", s, s.Known(), s.Canonical())
		}
	}
}

// The members that section "Executions over HTTP" promises: all of them always there.
func TestExecution_JSON(t *testing.T) {
	at := time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC)
	full := wire.Execution{
		ID: 51, ActionRef: "core.echo", Parameters: json.RawMessage(`{"message":"Hello!"}`), Parent: new(int64(50)),
		Executor: new(int64(7)), Status: wire.StatusCompleted, Result: json.RawMessage(`{"message":"Hello!"}`),
		Created: at, StartedAt: &at, Updated: at,
	}
	for _, tc := range []struct {
		execution wire.Execution
		want      string
	}{
		{full, `{"id":51,"action_ref":"core.echo","parameters":{"message":"Hello!"},"parent":50,"executor":7,"status":"completed",` +
			`"result":{"message":"Hello!"},"created":"2026-03-03T19:42:41.123456Z","started_at":"2026-03-03T19:42:41.123456Z",` +
			`"updated":"2026-03-03T19:42:41.123456Z"}`},
		{
			wire.Execution{ID: 1, ActionRef: "core.noop", Status: wire.StatusRequested, Created: at, Updated: at},
			`{"id":1,"action_ref":"core.noop","parameters":null,"parent":null,"executor":null,"status":"requested","result":null,` +
				`"created":"2026-03-03T19:42:41.123456Z","started_at":null,"updated":"2026-03-03T19:42:41.123456Z"}`,
		},
	} {
		b, err := json.Marshal(tc.execution)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decodeAny(t, tc.want), decodeAny(t, string(b))); diff != "" {
			t.Errorf("execution (-want +got):\n%s", diff)
		}
	}
	var back wire.Execution
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, back); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

func TestExecutionList_JSON(t *testing.T) {
	for want, list := range map[string]wire.ExecutionList{
		`{"items":[],"next_before":null}`: {Items: []wire.Execution{}},
		`{"items":[],"next_before":123}`:  {Items: []wire.Execution{}, NextBefore: new(int64(123))},
	} {
		if b, err := json.Marshal(list); err != nil || string(b) != want {
			t.Errorf("got %s, %v; want %s", b, err, want)
		}
	}
}
