// Command plot reads the output of `go test -bench Growth ./broadcast` and draws each
// series as an SVG file, one point for each x=…, the median of its runs.
//
//	go test -run '^$' -bench Growth -count 3 ./broadcast | go run ./bench/plot docs/plots
package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// series says what a series of BenchmarkGrowth is about. What is measured is the time
// of a Publish, unless unit says otherwise.
type series struct{ title, x, unit string }

// known returns the series by name.
func known() map[string]series {
	return map[string]series{
		"Others":      {"Publish, by subscribers that do not match", "subscribers that do not match", "ns/op"},
		"Matching":    {"Publish and take, by subscribers that match", "subscribers that match", "ns/op"},
		"FiltersEach": {"Publish and take for 100 subscribers, by filters of each", "filters of each subscriber", "ns/op"},
		"Window":      {"Publish, by size of the window", "notifications retained", "ns/op"},
		"Payload":     {"Publish and take for 100 subscribers, by size of the payload", "bytes of payload", "ns/op"},
		"QueueFill":   {"Memory of a subscriber, by messages in its queue", "messages in the queue", "B/subscriber"},
	}
}

// point is a median.
type point struct{ x, y float64 }

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: plot DIRECTORY <output-of-go-test")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, dir string) error {
	measured, err := parse(in)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for everybody to read
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		points := measured[name]
		path := filepath.Join(dir, strings.ToLower(name)+".svg")
		if err := os.WriteFile(path, []byte(draw(known()[name], points)), 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
		fmt.Fprintf(out, "| %s |", known()[name].title)
		for _, p := range points {
			fmt.Fprintf(out, " %s: %s |", short(p.x), short(p.y))
		}
		fmt.Fprintln(out)
	}
	return nil
}

// parse returns the points of each series.
func parse(in io.Reader) (map[string][]point, error) {
	line := regexp.MustCompile(`^BenchmarkGrowth/(\w+)/x=(\d+)\S*\s+\d+\s+(.*)`)
	runs := make(map[string]map[float64][]float64)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		s, ok := known()[m[1]]
		if !ok {
			return nil, fmt.Errorf("series %q is not known here", m[1])
		}
		x, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(m[3]) // value unit value unit …
		at := slices.Index(fields, s.unit)
		if at < 1 {
			return nil, fmt.Errorf("%s: no %s", m[0], s.unit)
		}
		y, err := strconv.ParseFloat(fields[at-1], 64)
		if err != nil {
			return nil, err
		}
		if runs[m[1]] == nil {
			runs[m[1]] = make(map[float64][]float64)
		}
		runs[m[1]][x] = append(runs[m[1]][x], y)
	}
	measured := make(map[string][]point)
	for name, byX := range runs {
		for _, x := range slices.Sorted(maps.Keys(byX)) {
			ys := slices.Sorted(slices.Values(byX[x]))
			measured[name] = append(measured[name], point{x, ys[len(ys)/2]})
		}
	}
	return measured, lines.Err()
}

// Sizes of a plot, in pixels.
const (
	width, height          = 560, 300
	left, right, top, foot = 70, 20, 40, 50
)

// draw returns a plot with both axes in powers of ten.
func draw(s series, points []point) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range points {
		low, high = min(low, p.y), max(high, p.y)
	}
	bottom, ceiling := math.Floor(math.Log10(max(low, 1))), math.Ceil(math.Log10(max(high, 10))+1e-9)
	first, last := math.Log10(points[0].x), math.Log10(points[len(points)-1].x)
	px := func(x float64) float64 {
		return left + (math.Log10(x)-first)/max(last-first, 1e-9)*(width-left-right)
	}
	py := func(y float64) float64 {
		return height - foot - (math.Log10(max(y, 1))-bottom)/(ceiling-bottom)*(height-top-foot)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="14">%s</text>`+"\n", left, s.title)
	for power := bottom; power <= ceiling; power++ {
		y := py(math.Pow(10, power))
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`, left, y, width-right, y)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-8, y+4, short(math.Pow(10, power)))
	}
	var line []string
	for _, p := range points {
		line = append(line, fmt.Sprintf("%.1f,%.1f", px(p.x), py(p.y)))
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="#2563eb"/>`, px(p.x), py(p.y))
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", px(p.x), height-foot+18, short(p.x))
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#2563eb" stroke-width="2"/>`+"\n", strings.Join(line, " "))
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-12, s.x)
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text></svg>`+"\n", (top+height-foot)/2, s.unit)
	return b.String()
}

// short writes a number as people do.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}
