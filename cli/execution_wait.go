package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"attune/wire"
)

func (a *app) executionWait() *cobra.Command {
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "wait ID...",
		Short: "Wait until executions are over",
		Long: `Wait until executions are over and print their results on stdout, one line of JSON each,
with --json the executions. All are waited for at once; the lines come in the order of
the arguments, and the exit code is that of the first in this order that did not complete.

` + exitHelp,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			return a.waitForAll(cmd.Context(), ids, time.Duration(timeout))
		},
	}
	flags := cmd.Flags()
	flags.Var(&timeout, "timeout", "how long to wait: a duration or whole seconds; 0 looks once")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress")
	a.jsonFlag(cmd, "print the executions as JSON, one object a line")
	return cmd
}

// waitForAll waits for executions at once and tells of them in the order of ids.
func (a *app) waitForAll(ctx context.Context, ids []int64, timeout time.Duration) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	p := a.printer()
	var first error
	p.during(ctx, "waiting", func() {
		type outcome struct {
			e   wire.Execution
			err error
		}
		outcomes := make([]chan outcome, len(ids))
		var waits sync.WaitGroup
		defer waits.Wait()
		for i, id := range ids {
			outcomes[i] = make(chan outcome, 1)
			waits.Go(func() {
				e, err := a.waitFor(ctx, c, p, waiting{id: id, timeout: timeout})
				outcomes[i] <- outcome{e, err}
			})
		}
		for i := range ids {
			o := <-outcomes[i]
			err := a.conclude(ctx, o.e, o.err)
			if err == nil {
				continue
			}
			if _, said := errors.AsType[*SaidError](err); !said {
				err = &SaidError{a.report(ctx, err)}
			}
			if first == nil {
				first = err
			}
		}
	})
	return first
}
