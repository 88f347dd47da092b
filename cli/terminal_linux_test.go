package cli_test

import (
	"io"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"attune/cli"
	"attune/wire"
)

// terminal opens a pseudo terminal: what is written to tty can be read from the output.
func terminal(t *testing.T) (tty *os.File, shown *output) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	shown = newOutput()
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(shown, control) }) // ends with an error when the tty is closed
	t.Cleanup(func() {
		_ = tty.Close()
		reading.Wait()
		_ = control.Close()
	})
	return tty, shown
}

// Colours and a spinner are for terminals, and for those who want them.
func TestRun_Terminal(t *testing.T) {
	tests := map[string]struct {
		env            map[string]string
		args           []string
		spins, colours bool
	}{
		"Plain":        {nil, nil, true, true},
		"NoColor":      {map[string]string{"NO_COLOR": "1"}, nil, true, false},
		"NoColorEmpty": {map[string]string{"NO_COLOR": ""}, nil, true, true},
		"Dumb":         {map[string]string{"TERM": "dumb"}, nil, false, false},
		"JSON":         {nil, []string{"--json"}, false, true},
		"Quiet":        {nil, []string{"--quiet"}, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			tty, shown := terminal(t)
			env := map[string]string{"ATTUNE_URL": s.url, "TERM": "xterm"}
			maps.Copy(env, tt.env)
			var beside sync.WaitGroup
			beside.Go(func() {
				<-s.streams
				if tt.spins {
					shown.has(t, "⠙ core.echo", 1)
				}
				s.change(1, wire.StatusCompleted)
			})
			stdout := newOutput()
			code := cli.Run(t.Context(), cli.Options{
				Args: append([]string{"action", "execute", "core.echo", "--wait"}, tt.args...), Getenv: func(name string) string { return env[name] },
				Stdin: strings.NewReader(""), Stdout: stdout, Stderr: tty,
			})
			beside.Wait()
			if _, err := tty.WriteString("over"); err != nil {
				t.Fatal(err)
			}
			shown.has(t, "over", 1)
			text := shown.String()
			if code != 0 {
				t.Fatalf("code %d:\n%s", code, text)
			}
			if got := strings.Contains(text, "⠋"); got != tt.spins {
				t.Errorf("spinner %v, want %v:\n%q", got, tt.spins, text)
			}
			if got := strings.Contains(text, "\x1b[32m✓ Execution 1 completed\x1b[0m"); got != tt.colours {
				t.Errorf("colours %v, want %v:\n%q", got, tt.colours, text)
			}
			if strings.ContainsRune(stdout.String(), '\x1b') {
				t.Errorf("stdout %q", stdout)
			}
			// What the spinner left is erased before the next line.
			if tt.spins && strings.Count(text, "\r\x1b[K") != strings.Count(text, "core.echo 0s")+strings.Count(text, "core.echo 1s") {
				t.Errorf("the spinner was not erased:\n%q", text)
			}
		})
	}
}
