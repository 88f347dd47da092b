package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"attune/wire"
)

func (a *app) executionShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an execution",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			e, err := c.Execution(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			return a.show(e)
		},
	}
	a.jsonFlag(cmd, "print the execution as JSON")
	return cmd
}

// show prints an execution for people, one member a line.
func (a *app) show(e wire.Execution) error {
	for _, member := range [][2]string{
		{"id", strconv.FormatInt(e.ID, 10)},
		{"action", e.ActionRef},
		{"status", string(e.Status)},
		{"parent", optional(e.Parent)},
		{"executor", optional(e.Executor)},
		{"created", moment(&e.Created)},
		{"started", moment(e.StartedAt)},
		{"updated", moment(&e.Updated)},
		{"parameters", compact(e.Parameters)},
		{"result", compact(e.Result)},
	} {
		if err := a.printLine("%-12s%s", member[0]+":", printable(member[1], "")); err != nil {
			return err
		}
	}
	return nil
}

func optional(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
