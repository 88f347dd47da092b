// Command attune turns PostgreSQL's LISTEN/NOTIFY into live updates: `attune serve`
// feeds browsers, programs and scripts from one hub on one listen connection, and
// the other commands are its clients.
//
// This package is the only one that sees all others. main.go is the process: its
// signals and its exit; config.go what serve is told, serve.go what it does.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"attune/cli"
	"attune/pg/local"
)

func main() {
	if code, keeper := local.Main(); keeper {
		os.Exit(code)
	}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		// Before anything can be seen of the first signal, so that the next one ends
		// the process at once.
		signal.Stop(signals)
		cancel()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the command line: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	variables := make(map[string]string, len(environ))
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		variables[name] = value
	}
	return cli.Run(ctx, cli.Options{
		Args:     args,
		Getenv:   func(name string) string { return variables[name] },
		Stdin:    stdin,
		Stdout:   stdout,
		Stderr:   stderr,
		Version:  version(),
		Commands: []*cobra.Command{serveCommand(variables), doctorCommand(variables), dbCommand(variables), tokenCommand(variables)},
	})
}

// version is what the Go toolchain knows of this build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(version, s.Value[:min(12, len(s.Value))]) {
			version += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}
