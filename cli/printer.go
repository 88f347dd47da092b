package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Escape sequences of a terminal.
const (
	green     = "\x1b[32m"
	red       = "\x1b[31m"
	plain     = "\x1b[0m"
	clearLine = "\r\x1b[K"
)

const spinInterval = 100 * time.Millisecond

// printer writes what a person reads, line by line. Its methods may be called from
// several goroutines.
type printer struct {
	w       io.Writer
	quiet   bool
	colours bool
	spins   bool

	mu    sync.Mutex
	frame string // the spinner as it stands on the last line; "" when it does not
}

// printer returns the printer on stderr, one for the whole run. It uses colours only on a terminal and never
// with NO_COLOR, a spinner only on a terminal and neither with --quiet nor --json.
func (a *app) printer() *printer {
	if a.stderr != nil {
		return a.stderr
	}
	f, ok := a.Stderr.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd())) && a.Getenv("TERM") != "dumb"
	a.stderr = &printer{
		w:       a.Stderr,
		quiet:   a.quiet,
		colours: terminal && a.Getenv("NO_COLOR") == "",
		spins:   terminal && !a.quiet && !a.json,
	}
	return a.stderr
}

// line prints a line of progress, unless quiet.
func (p *printer) line(format string, args ...any) { p.coloured("", format, args...) }

// coloured prints a line of progress in that colour where there are colours.
func (p *printer) coloured(colour, format string, args ...any) {
	if !p.quiet {
		p.print(colour, format, args...)
	}
}

// always prints a line even when quiet: something the user must know.
func (p *printer) always(format string, args ...any) { p.print("", format, args...) }

// error prints what went wrong, which may take several lines.
func (p *printer) error(err error) { p.write("Error: " + printable(err.Error(), "\n")) }

func (p *printer) print(colour, format string, args ...any) {
	text := printable(fmt.Sprintf(format, args...), "")
	if p.colours && colour != "" {
		text = colour + text + plain
	}
	p.write(text)
}

func (p *printer) write(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintln(p.w, text)
}

// during shows a spinner with a label while work runs, where there is a terminal.
func (p *printer) during(ctx context.Context, label string, work func()) {
	if !p.spins {
		work()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var spinner sync.WaitGroup
	defer spinner.Wait()
	defer cancel()
	spinner.Go(func() { p.spin(ctx, label) })
	work()
}

// spin draws the spinner below the last line until ctx is done.
func (p *printer) spin(ctx context.Context, label string) {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	ticker := time.NewTicker(spinInterval)
	defer ticker.Stop()
	started := time.Now()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			p.erase()
			return
		case now := <-ticker.C:
			p.mu.Lock()
			p.erase()
			p.frame = fmt.Sprintf("%c %s %s", frames[i%len(frames)], label, now.Sub(started).Truncate(time.Second))
			fmt.Fprint(p.w, p.frame)
			p.mu.Unlock()
		}
	}
}

// erase takes the spinner off its line. The caller holds mu.
func (p *printer) erase() {
	if p.frame != "" {
		p.frame = ""
		fmt.Fprint(p.w, clearLine)
	}
}
