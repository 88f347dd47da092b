package pg_test

import (
	"testing"
	"time"

	"attune/pg"
)

func TestBackoff(t *testing.T) {
	waits, afterReset := pg.BackoffWaits(12)
	if waits[0] != 0 || afterReset != 0 {
		t.Errorf("first wait %s, after a reset %s, want none", waits[0], afterReset)
	}
	most := 100 * time.Millisecond
	for i, wait := range waits[1:] {
		if wait < most/2 || wait >= most {
			t.Errorf("wait %d is %s, want %s to %s", i+1, wait, most/2, most)
		}
		most = min(2*most, 10*time.Second)
	}
}
