package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attune/client"
	"attune/wire"
)

// maxParameters bounds what is read from stdin: a server takes a body of 1 MiB.
const maxParameters = 1 << 20

func (a *app) actionExecute() *cobra.Command {
	var (
		params  []string
		object  string
		wait    bool
		timeout = defaultTimeout
	)
	cmd := &cobra.Command{
		Use:   "execute ACTION",
		Short: "Execute an action, and wait for its result if asked to",
		Long: `Execute an action.

Without --wait the id of the execution is printed on stdout, with --json the execution.
With --wait the result is printed on stdout as one line of JSON, with --json the
execution, however it ended; progress goes to stderr. Ctrl-C detaches: the execution
goes on, and the command that resumes waiting is printed.

` + exitHelp,
		Example: `  attune action execute core.echo --param message="Hello!" --wait
  attune action execute core.sleep --param seconds=5 --wait --timeout 1m
  id=$(attune action execute core.noop -q) && attune execution wait "$id"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one action, such as core.echo, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			parameters, err := parseParameters(a.Stdin, object, params)
			if err != nil {
				return err
			}
			req := wire.ExecutionRequest{ActionRef: args[0], Parameters: parameters}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if wait {
				return a.executeAndWait(cmd.Context(), c, req, time.Duration(timeout))
			}
			a.printer().line("Executing action: %s", req.ActionRef)
			started, err := start(cmd.Context(), c, req)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(started.Execution)
			}
			return a.printLine("%d", started.ID)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&params, "param", nil, "parameter as `name=value`; a value that is JSON counts as such, any other as a string")
	flags.StringVar(&object, "params-json", "", "parameters as a JSON `object`, or - to read it from stdin; --param adds to it")
	flags.BoolVar(&wait, "wait", false, "wait until the execution is over")
	flags.Var(&timeout, "timeout", "how long to wait: a duration or whole seconds; 0 looks once")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress")
	a.jsonFlag(cmd, "print the execution as JSON")
	return cmd
}

func (a *app) executeAndWait(ctx context.Context, c *client.Client, req wire.ExecutionRequest, timeout time.Duration) error {
	p := a.printer()
	var (
		e   wire.Execution
		err error
	)
	p.line("Executing action: %s", req.ActionRef)
	p.during(ctx, req.ActionRef, func() {
		var started client.Started
		if started, err = start(ctx, c, req); err != nil {
			return
		}
		e, err = a.waitFor(ctx, c, p, waiting{id: started.ID, cursor: started.Cursor, timeout: timeout})
		if e.ID == 0 {
			e = started.Execution // as far as anybody knows
		}
	})
	if e.ID == 0 {
		return err
	}
	return a.conclude(ctx, e, err)
}

// start asks for an execution.
func start(ctx context.Context, c *client.Client, req wire.ExecutionRequest) (client.Started, error) {
	started, err := c.Execute(ctx, req)
	if err != nil && ctx.Err() != nil {
		return started, fmt.Errorf("interrupted: the execution may have been started, see attune execution list: %w", err)
	}
	return started, err
}

// parseParameters returns the object that --params-json and --param make together.
func parseParameters(stdin io.Reader, object string, params []string) (json.RawMessage, error) {
	members := make(map[string]json.RawMessage)
	if object == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, maxParameters+1))
		if err != nil {
			return nil, fmt.Errorf("read the parameters from stdin: %w", err)
		}
		if len(text) > maxParameters {
			return nil, usagef("--params-json -: want at most %d bytes", maxParameters)
		}
		object = string(text)
	}
	if object != "" {
		var err error
		if members, err = wire.Object([]byte(object)); err != nil {
			return nil, usagef("--params-json: want a JSON object such as {\"message\":\"Hello!\"}: %w", err)
		}
	}
	given := make(map[string]bool)
	for _, param := range params {
		name, value, ok := strings.Cut(param, "=")
		if !ok || name == "" {
			return nil, usagef("--param %q: want name=value", param)
		}
		if given[name] {
			return nil, usagef("--param %s: given twice", name)
		}
		given[name] = true
		if members[name] = json.RawMessage(value); !json.Valid(members[name]) {
			text, err := encode(value)
			if err != nil {
				return nil, err
			}
			members[name] = text
		}
	}
	return encode(members)
}
