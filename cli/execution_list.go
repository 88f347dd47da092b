package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"attune/wire"
)

func (a *app) executionList() *cobra.Command {
	var (
		query          wire.ExecutionQuery
		status         string
		parent, before int64
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List executions, newest first",
		Long: `List executions, newest first.

With --json one object is printed: {"items":[...],"next_before":123}. The next page is
asked for with --before 123; next_before is null on the last one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query.Status = wire.Status(status)
			if status != "" && !query.Status.Known() {
				return usagef("--status %q: want one of %s", status, statuses())
			}
			if cmd.Flags().Changed("limit") && (query.Limit < 1 || query.Limit > 500) {
				return usagef("--limit %d: want 1 to 500", query.Limit)
			}
			if cmd.Flags().Changed("parent") {
				query.Parent = &parent
			}
			if cmd.Flags().Changed("before") {
				query.Before = &before
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.List(cmd.Context(), query)
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
	flags.StringVar(&query.ActionRef, "action", "", "only of this action")
	flags.Int64Var(&parent, "parent", 0, "only children of this execution")
	flags.IntVar(&query.Limit, "limit", 0, "at most so many, 1 to 500 (default 50)")
	flags.Int64Var(&before, "before", 0, "only ids below this one")
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
