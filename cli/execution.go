package cli

import "github.com/spf13/cobra"

func (a *app) execution() *cobra.Command {
	return group("execution", "Show, list, await and cancel executions",
		a.executionShow(), a.executionList(), a.executionWait(), a.executionCancel())
}
