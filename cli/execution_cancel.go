package cli

import "github.com/spf13/cobra"

func (a *app) executionCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Ask for an execution to be cancelled",
		Long: `Ask for an execution to be cancelled. It is cancelled when its action has stopped:
attune execution wait tells when.`,
		Args: cobra.ExactArgs(1),
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
			e, err := c.Cancel(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			return a.printLine("Execution %d: %s", e.ID, printable(string(e.Status), ""))
		},
	}
	a.jsonFlag(cmd, "print the execution as JSON")
	return cmd
}
