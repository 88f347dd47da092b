package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"attune/client"
	"attune/wire"
)

func (a *app) executionList() *cobra.Command {
	var (
		opts   client.ListOptions
		status string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List executions, newest first",
		Long: `List executions, newest first.

With --json one object is printed: {"items":[...],"next_before":123}. The next page is
asked for with --before 123; next_before is null on the last one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Status = wire.Status(status)
			if status != "" && !opts.Status.Known() {
				return usagef("--status %q: want one of %s", status, statuses())
			}
			if opts.Limit < 0 || opts.Limit > 500 {
				return usagef("--limit %d: want 1 to 500", opts.Limit)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.List(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			return a.table(list)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&status, "status", "", "only with this status: "+statuses())
	flags.StringVar(&opts.ActionRef, "action", "", "only of this action")
	flags.Int64Var(&opts.Parent, "parent", 0, "only children of this execution")
	flags.IntVar(&opts.Limit, "limit", 0, "at most so many, 1 to 500 (default 50)")
	flags.Int64Var(&opts.Before, "before", 0, "only ids below this one")
	a.jsonFlag(cmd, "print the page as JSON")
	return cmd
}

// table prints a page for people.
func (a *app) table(list wire.ExecutionList) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATUS\tACTION\tCREATED")
	for _, e := range list.Items {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", e.ID, printable(string(e.Status), ""), printable(e.ActionRef, ""), moment(&e.Created))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	if list.NextBefore != nil {
		a.printer().line("More: --before %d", *list.NextBefore)
	}
	return nil
}

func statuses() string {
	var names []string
	for _, s := range wire.Statuses() {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}
