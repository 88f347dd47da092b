package pg_test

import (
	"slices"
	"testing"
	"time"

	"attune/pg"
)

func TestGather(t *testing.T) {
	t.Parallel()
	const few, some = 15, 20
	calm, fast := pg.Read{After: 300 * time.Microsecond, Brings: 1}, pg.Read{After: 200 * time.Microsecond, Brings: 1}
	rush := slices.Repeat([]pg.Read{fast}, 32) // the first of them after a pause
	tests := []struct {
		name  string
		reads []pg.Read
		want  []int // the reads that are waited after
	}{
		{"Calm", slices.Repeat([]pg.Read{calm}, 100), nil},
		{"Rush", rush, []int{31}},
		{"RushGoesOn", append(rush, pg.Read{Brings: some}, pg.Read{Brings: some}), []int{31, 32, 33}},
		{"RushIsMoreThanARead", append(rush, pg.Read{Brings: some, Unread: true}, pg.Read{Brings: few}, fast), []int{31, 33}},
		{"Burst", slices.Repeat([]pg.Read{{Brings: some, Unread: true}}, 100), nil},
		{"RushEnds", append(rush, pg.Read{Brings: some}, pg.Read{Brings: few}, fast), []int{31, 32}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := pg.GatherWaits(tt.reads); !slices.Equal(got, tt.want) {
				t.Errorf("waits after %v, want %v", got, tt.want)
			}
		})
	}
}
