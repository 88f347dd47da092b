// Package ratios keeps what benchmarks have measured, as ratios that hold on other
// machines too, and tells what has become worse.
package ratios

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// Tolerance is how many times as large as recorded a ratio may be.
const Tolerance = 1.25

// Measured is a ratio as it came out. Less is better.
type Measured struct {
	Name  string
	Ratio float64
	Of    string // what the ratio is made of, for people
}

// Recorded are ratios by name.
type Recorded map[string]float64

// Read reads a file that Record has written.
func Read(path string) (Recorded, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Recorded
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Record writes the ratios into a file, in place of those that were there.
func Record(path string, list []Measured) error {
	r := make(Recorded, len(list))
	for _, m := range list {
		if err := m.check(); err != nil {
			return err
		}
		r[m.Name] = m.Ratio
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644) //nolint:gosec // a file of the repository
}

// Compare says on out how each ratio compares with the one recorded, and returns an
// error that names each that is worse by more than Tolerance allows. One that seems to
// be is measured again, and the better of the two counts: somebody else may have been
// at work on the machine. What is recorded must be measured, and the other way round.
func (r Recorded) Compare(out io.Writer, list []Measured, again func(name string) (Measured, error)) error {
	var errs []error
	missing := maps.Clone(r)
	for _, m := range list {
		delete(missing, m.Name)
		want, ok := r[m.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: measured, but not recorded", m.Name))
			continue
		}
		if err := m.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		most := want * Tolerance
		if m.Ratio > most {
			second, err := again(m.Name)
			if err == nil {
				err = second.check()
			}
			if err != nil {
				return err
			}
			if second.Ratio < m.Ratio {
				m = second
			}
		}
		fmt.Fprintf(out, "%s: %s; recorded %.3g: %+.0f %%\n", m.Name, m.Of, want, (m.Ratio/want-1)*100)
		if m.Ratio > most {
			errs = append(errs, fmt.Errorf("%s: %s; recorded %.3g, so at most %.3g", m.Name, m.Of, want, most))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		errs = append(errs, fmt.Errorf("%s: recorded, but not measured", name))
	}
	return errors.Join(errs...)
}

// check refuses what a comparison with a number would let pass: a ratio to nothing, or
// of nothing.
func (m Measured) check() error {
	if m.Ratio > 0 && m.Ratio <= 1e9 {
		return nil
	}
	return fmt.Errorf("%s: %s is no ratio: %v", m.Name, m.Of, m.Ratio)
}
