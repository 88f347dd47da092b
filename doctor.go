package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"attune/cli"
	"attune/pg/doctor"
)

// exitNeedsAction is the exit code of `attune doctor` when somebody has to do something.
const exitNeedsAction = 1

// doctorSettings are the settings that doctor takes, the same as serve's.
func doctorSettings() []setting {
	taken := []string{"ATTUNE_DATABASE_URL", "ATTUNE_LISTEN_URL", "ATTUNE_SCHEMA", "ATTUNE_CHANNELS", "ATTUNE_SOURCE"}
	known := slices.DeleteFunc(settings(), func(s setting) bool { return !slices.Contains(taken, s.name) })
	for i, s := range known {
		if s.name == "ATTUNE_DATABASE_URL" {
			known[i].description = "the database to examine, as libpq writes it; DATABASE_URL is taken where this is not set"
		}
	}
	return known
}

// doctorCommand returns `attune doctor`.
func doctorCommand(environ map[string]string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine a database: will notifications arrive, and what is in their way",
		Long: "Examine a database the way an operator would, and say what to do about what is found.\n\n" +
			"It reads catalogs, settings and statistics, and sends one NOTIFY on a channel of its own; nothing else is\n" +
			"written. It takes at most ten seconds. Settings are those of `attune serve`:\n\n" + describe(doctorSettings()) +
			"\nExit codes:\n    0  nothing needs action\n    1  something does: a warning or a problem\n    2  usage",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := doctorConfig(cmd, environ)
			if err != nil {
				if asJSON {
					problem := map[string]map[string]string{"error": {"code": "usage", "message": err.Error()}}
					if err := writeJSON(cmd.OutOrStdout(), problem); err != nil {
						return err
					}
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "Error: %v\n", err)
				return &cli.SaidError{Code: cli.ExitUsage}
			}
			report := doctor.Examine(cmd.Context(), cfg)
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), report)
			} else {
				err = writeReport(cmd.OutOrStdout(), report, colourful(cmd.OutOrStdout(), environ))
			}
			if err == nil && !report.OK {
				return &cli.SaidError{Code: exitNeedsAction}
			}
			return err
		},
	}
	addFlags(cmd, doctorSettings())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// doctorConfig reads doctor's own settings: what else is in the environment may be
// wrong without concerning it.
func doctorConfig(cmd *cobra.Command, environ map[string]string) (doctor.Config, error) {
	own := map[string]string{"DATABASE_URL": environ["DATABASE_URL"]}
	for _, s := range doctorSettings() {
		if value, ok := environ[s.name]; ok {
			own[s.name] = value
		}
	}
	cfg, err := loadConfig(flagged(cmd, own, doctorSettings()))
	if err != nil {
		return doctor.Config{}, err
	}
	if cfg.DatabaseURL == "" {
		return doctor.Config{}, fmt.Errorf("which database? Give its URL by --database-url, ATTUNE_DATABASE_URL or DATABASE_URL")
	}
	return doctor.Config{
		DatabaseURL: cfg.DatabaseURL, ListenURL: cfg.ListenURL, Schema: cfg.Schema, Channels: cfg.Channels,
		LogNeeded: cfg.Source == sourceLog,
	}, nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// writeReport writes a report for people.
func writeReport(w io.Writer, report doctor.Report, colours bool) error {
	var b strings.Builder
	actions := 0
	for _, f := range report.Findings {
		if f.Level.NeedsAction() {
			actions++
		}
		level := fmt.Sprintf("%-8s", f.Level)
		if colours {
			level = colourOf(f.Level) + level + "\x1b[0m"
		}
		fmt.Fprintf(&b, "%s %-14s %s\n", level, f.Check, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%-24s→ %s\n", "", f.Remedy)
		}
	}
	switch actions {
	case 0:
		b.WriteString("\nNothing needs action.\n")
	case 1:
		b.WriteString("\n1 finding needs action.\n")
	default:
		fmt.Fprintf(&b, "\n%d findings need action.\n", actions)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

func colourOf(level doctor.Level) string {
	switch level {
	case doctor.OK:
		return "\x1b[32m"
	case doctor.Note:
		return "\x1b[36m"
	case doctor.Warning:
		return "\x1b[33m"
	case doctor.Problem:
	}
	return "\x1b[31m"
}

// colourful reports whether w is a terminal of somebody who wants colours.
func colourful(w io.Writer, environ map[string]string) bool {
	f, ok := w.(*os.File)
	return ok && environ["NO_COLOR"] == "" && environ["TERM"] != "dumb" && term.IsTerminal(int(f.Fd()))
}
