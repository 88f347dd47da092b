package cli

import "github.com/spf13/cobra"

func (a *app) action() *cobra.Command {
	return group("action", "Execute actions", a.actionExecute())
}
