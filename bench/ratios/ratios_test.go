package ratios_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/bench/ratios"
)

func TestRecorded_Compare(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ratios.json")
	if err := ratios.Record(file, []ratios.Measured{{Name: "cpu", Ratio: 1.2}, {Name: "memory", Ratio: 8}}); err != nil {
		t.Fatal(err)
	}
	recorded, err := ratios.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	cpu := func(ratio float64) ratios.Measured {
		return ratios.Measured{Name: "cpu", Ratio: ratio, Of: "0.6, limit 0.4"}
	}
	memory := ratios.Measured{Name: "memory", Ratio: 8, Of: "8"}
	unstarted := errors.New("no server")

	for name, c := range map[string]struct {
		measured []ratios.Measured
		again    ratios.Measured
		err      error    // of measuring again
		asked    []string // what was measured again
		said     string   // a part of what is printed
		want     []string // parts of the error; none: there is none
	}{
		"AsRecorded": {measured: []ratios.Measured{cpu(1.2), memory}, said: "cpu: 0.6, limit 0.4; recorded 1.2: +0 %\nmemory: 8; recorded 8: +0 %\n"},
		"Better":     {measured: []ratios.Measured{cpu(0.3), memory}, said: "recorded 1.2: -75 %"},
		"Tolerated":  {measured: []ratios.Measured{cpu(1.49), memory}, said: "recorded 1.2: +24 %"},
		"WorseOnce":  {measured: []ratios.Measured{cpu(1.6), memory}, again: cpu(1.3), asked: []string{"cpu"}, said: "recorded 1.2: +8 %"},
		"WorseTwice": {
			measured: []ratios.Measured{cpu(1.6), memory}, again: cpu(1.7), asked: []string{"cpu"}, said: "recorded 1.2: +33 %",
			want: []string{"cpu: 0.6, limit 0.4; recorded 1.2, so at most 1.5"},
		},
		"NotMeasuredAgain": {measured: []ratios.Measured{cpu(1.6), memory}, err: unstarted, asked: []string{"cpu"}, want: []string{"no server"}},
		"NoRatioAgain":     {measured: []ratios.Measured{cpu(1.6), memory}, again: cpu(math.NaN()), asked: []string{"cpu"}, want: []string{"cpu: 0.6, limit 0.4 is no ratio: NaN"}},
		"NotRecorded":      {measured: []ratios.Measured{cpu(1.2), memory, {Name: "disk", Ratio: 1}}, want: []string{"disk: measured, but not recorded"}},
		"NotMeasured":      {measured: []ratios.Measured{cpu(1.2)}, want: []string{"memory: recorded, but not measured"}},
		"NoRatio":          {measured: []ratios.Measured{cpu(math.NaN()), memory}, want: []string{"cpu: 0.6, limit 0.4 is no ratio: NaN"}},
		"Infinite":         {measured: []ratios.Measured{cpu(math.Inf(1)), memory}, want: []string{"is no ratio: +Inf"}},
		"Nothing":          {measured: []ratios.Measured{cpu(0), memory}, want: []string{"is no ratio: 0"}},
		"Both": {
			measured: []ratios.Measured{cpu(math.Inf(1)), {Name: "disk", Ratio: 1}},
			want:     []string{"is no ratio: +Inf", "disk: measured, but not recorded", "memory: recorded, but not measured"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			var asked []string
			err := recorded.Compare(&out, c.measured, func(name string) (ratios.Measured, error) {
				asked = append(asked, name)
				return c.again, c.err
			})
			if diff := cmp.Diff(c.asked, asked); diff != "" {
				t.Errorf("measured again (-want +got):\n%s", diff)
			}
			if !strings.Contains(out.String(), c.said) {
				t.Errorf("printed %q, want %q in it", out.String(), c.said)
			}
			if (err != nil) != (len(c.want) > 0) {
				t.Fatalf("got error %v, want %q", err, c.want)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// What no comparison could be made with is neither recorded nor read.
func TestRecord_Refuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ratios.json")
	if err := ratios.Record(file, []ratios.Measured{{Name: "cpu", Ratio: math.NaN()}}); err == nil {
		t.Error("recorded NaN")
	}
	if _, err := ratios.Read(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read what is not there: %v", err)
	}
	if err := os.WriteFile(file, []byte(`{"cpu": "1.2"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ratios.Read(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("read a ratio that is no number: %v", err)
	}
}
