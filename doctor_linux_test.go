package main_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"attune/attunetest"
)

// Colours are for terminals, and for those who want them.
func TestDoctor_Colours(t *testing.T) {
	t.Parallel()
	database := doctorDatabase(t)
	for name, tt := range map[string]struct {
		env     string
		args    []string
		colours bool
	}{
		"Terminal": {"TERM=xterm", nil, true},
		"NoColor":  {"NO_COLOR=1", nil, false},
		"Dumb":     {"TERM=dumb", nil, false},
		"JSON":     {"TERM=xterm", []string{"--json"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shown := onTerminal(t, []string{"DATABASE_URL=" + database, tt.env}, append([]string{"doctor"}, tt.args...)...)
			if coloured := strings.Contains(shown, "\x1b["); coloured != tt.colours {
				t.Errorf("colours: %t, want %t: %q", coloured, tt.colours, shown)
			}
		})
	}
}

// onTerminal runs attune to its end and returns what the terminal shows of its stdout.
func onTerminal(t *testing.T, env []string, args ...string) string {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&shown, control) }) // ends with an error when the tty is closed
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), attunetest.Binary(t), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{"GORACE=" + os.Getenv("GORACE")}, env...), tty, t.Output()
	err = cmd.Run()
	_ = tty.Close()
	reading.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited { // 1 is an answer, too
		t.Fatal(err)
	}
	return shown.String()
}
