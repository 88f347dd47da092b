// Package cli is the client side of the attune command: one file per command.
//
// What a script reads goes to stdout: results as JSON, ids, lists. What a person
// reads goes to stderr: progress, outcomes, errors. The exit code says how it went
// (exit.go). It never reads the process's environment or arguments by itself.
package cli

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"attune/client"
)

// Options is what a run of the command line depends on.
type Options struct {
	// Args are the arguments after the program's name.
	Args   []string
	Getenv func(string) string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Version is what `attune version` prints.
	Version string
	// Commands are those that are no clients of a server, such as the server itself.
	// What they have told the user already they end with a *SaidError.
	Commands []*cobra.Command
}

// Run runs the command line and returns the exit code. When ctx is cancelled, as by
// Ctrl-C, what waits detaches and the code is ExitDetached.
func Run(ctx context.Context, o Options) int {
	a := &app{Options: o}
	root := a.root()
	running(root, &a.running)
	root.SetArgs(append([]string{}, o.Args...))
	root.SetIn(o.Stdin)
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.running {
		err = &usageError{err}
	}
	return a.report(ctx, err)
}

// app is one run.
type app struct {
	Options
	profile, url string // the global flags
	json         bool
	quiet        bool
	stderr       *printer
	running      bool // arguments are in order: the command itself runs
}

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "attune",
		Short: "Know when a row in PostgreSQL changes",
		Long: `attune tells browsers, programs, scripts and people when a row in PostgreSQL changes.

The server is found by --url, ATTUNE_URL, a profile (--profile, ATTUNE_PROFILE or the
default one) or at ` + defaultURL + `, in this order. ATTUNE_TOKEN or the profile says as whom.
Profiles are kept in $XDG_CONFIG_HOME/attune/config.yaml (~/.config/attune/config.yaml):

  default: docker
  profiles:
    docker:
      url: http://localhost:8081
      token: ...          # sent to this URL only`,
		Version:       a.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          help,
	}
	root.SetVersionTemplate("attune {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.profile, "profile", "", "profile that names the server (ATTUNE_PROFILE)")
	flags.StringVar(&a.url, "url", "", "URL of the server (ATTUNE_URL)")
	root.AddCommand(a.Commands...)
	root.AddCommand(a.action(), a.execution(), a.wait(), a.events(), a.login(), a.health(), a.version())
	return root
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: help}
	c.AddCommand(commands...)
	return c
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// running makes each command of the tree note that its arguments were accepted.
func running(cmd *cobra.Command, noted *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*noted = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		running(c, noted)
	}
}

// jsonFlag adds --json.
func (a *app) jsonFlag(cmd *cobra.Command, usage string) {
	cmd.Flags().BoolVar(&a.json, "json", false, usage)
}

// wantsJSON reports whether the answer on stdout is to be JSON, also when the flags
// were never parsed because an earlier one was wrong.
func (a *app) wantsJSON() bool {
	return a.json || !a.running && slices.Contains(a.Args, "--json")
}

// client returns a client of the server that the flags, the environment and the
// profiles name.
func (a *app) client() (*client.Client, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	return a.connect(t)
}

// connect returns a client of t; what is wrong with t is the user's to correct.
func (a *app) connect(t target) (*client.Client, error) {
	c, err := client.New(client.Config{BaseURL: t.url, Token: t.token})
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}
