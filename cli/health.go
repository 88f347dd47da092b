package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) health() *cobra.Command {
	timeout := timeoutFlag(5 * time.Second)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask whether the server is ready",
		Long: `Ask the server's /readyz. Exit code 0: it is ready; 1: it is not, and why.

Without --url, ATTUNE_URL and a profile, the server at ATTUNE_LISTEN_ADDR is asked: as a
container's health check the command needs no arguments.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.healthTarget()
			if err != nil {
				return err
			}
			c, err := a.connect(t)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(timeout))
			defer cancel()
			if err := c.Ready(ctx); err != nil {
				return fmt.Errorf("not ready: %w", err)
			}
			return a.printLine("%s is ready", c.URL())
		},
	}
	cmd.Flags().Var(&timeout, "timeout", "how long to wait for the answer")
	return cmd
}
