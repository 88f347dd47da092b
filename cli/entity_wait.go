package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attune/client"
	"attune/wire"
)

func (a *app) wait() *cobra.Command {
	var until []string
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "wait TYPE:ID --until CONDITION",
		Short: "Wait until a row of a watched table is as it should be",
		Long: `Wait until a row of a watched table (attune db watch) is as it should be, and print its
payload on stdout as one line of JSON, with --json the entity. Progress goes to stderr.

TYPE is the entity type, by default the table's name, ID the row's key. A CONDITION is

  column=value            a column that is watched has that value
  column=value1|value2    it has one of them
  created                 the row exists; it is waited for if it does not exist yet
  deleted                 the row does not exist, or no more

--until may be repeated: all must hold. Values are compared as text: numbers, true, false
and null as in JSON, where 10.50 is not 10.5. A state counts even if it lasts only a
moment. A row that does not exist ends the wait unless created is among the conditions;
so does one that is deleted meanwhile.

Exit codes:
    0  the row is as it should be
    1  could not be observed: no connection, no such row, deleted, not watched
    2  usage, no such column
    3  the wait timed out, and the last look says not yet
    4  not authenticated or not allowed
  130  detached by Ctrl-C`,
		Example: `  attune wait orders:42 --until 'status=shipped|cancelled'
  attune wait orders:42 --until created --until paid=true --timeout 1h
  attune wait orders:42 --until deleted -q`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one row, such as orders:42, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			entityType, id, _ := strings.Cut(args[0], ":")
			if _, err := wire.ParseFilter("entity:" + args[0]); err != nil {
				return usagef("row %q: want TYPE:ID such as orders:42, TYPE 1 to 63 and ID 1 to 128 characters of [A-Za-z0-9_.-]", args[0])
			}
			c, err := parseConditions(until)
			if err != nil {
				return err
			}
			return a.waitForEntity(cmd.Context(), entityWait{entityType, id, c, time.Duration(timeout)})
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&until, "until", nil, "the `condition` to wait for; may be repeated, all must hold")
	flags.Var(&timeout, "timeout", "how long to wait: a duration or whole seconds; 0 looks once")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress")
	a.jsonFlag(cmd, "print the entity as JSON")
	return cmd
}

// entityWait is one wait for one row.
type entityWait struct {
	entityType, id string
	until          conditions
	timeout        time.Duration
}

func (w entityWait) String() string { return w.entityType + " " + w.id }

// waitForEntity waits for a row and prints it.
func (a *app) waitForEntity(ctx context.Context, w entityWait) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	p := a.printer()
	p.line("Waiting for %s until %s...", w, w.until)
	var e wire.Entity
	p.during(ctx, w.String(), func() {
		progress := progress{p: p, what: w.String(), until: w.until.String(), state: w.state}
		e, err = c.WaitEntity(ctx, w.entityType, w.id, w.until.hold, client.WaitOptions{
			Timeout: w.timeout, Absent: w.until.created, Progress: progress.tell,
		})
	})
	switch {
	case err == nil:
		p.coloured(green, "✓ %s %s", w, w.outcome(e))
		return a.printEntity(e)
	case ctx.Err() != nil:
		p.always("Detached from %s.", w)
	case errors.Is(err, client.ErrNotReached):
		p.always("%s is not there after %s: it %s", w, w.timeout, w.outcome(e))
	case errors.Is(err, client.ErrDeleted):
		return &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("%s was deleted before it was %s", w, w.until)}
	default:
		return w.explain(err)
	}
	p.always("To go on waiting: %s%s", w.command(), a.again())
	// The row is the answer where there is one; the user has been told the rest.
	if a.json && e.EntityType == "" {
		return err
	}
	if a.json {
		if err := a.printJSON(e); err != nil {
			return err
		}
	}
	return &SaidError{errorCode(ctx, err)}
}

// explain says what the user may have meant where there is no such row.
func (w entityWait) explain(err error) error {
	if refused, ok := errors.AsType[*client.StatusError](err); ok && refused.Cursor != "" {
		return fmt.Errorf("%w (--until created waits for a row that does not exist yet)", err)
	}
	return err
}

// state tells the columns that are waited for, and of a row that is deleted nothing.
func (w entityWait) state(e client.Event) (string, bool) {
	switch e := e.(type) { //nolint:gochecksumtype // the others tell no state
	case client.Notified:
		if told := w.until.tell(e.Payload); told != "" && !isDeletion(e) {
			return " — " + told, true
		}
		return "", true
	case client.Read:
		if told := w.until.tell(e.Payload); told != "" {
			return " — " + told, true
		}
	}
	return "", false
}

// isDeletion reports whether a notification says that the row is no more.
func isDeletion(n client.Notified) bool {
	row, err := wire.Object(n.Payload)
	return err == nil && string(row["op"]) == `"deleted"`
}

// outcome says how a row is.
func (w entityWait) outcome(e wire.Entity) string {
	if e.Payload == nil {
		return "does not exist"
	}
	if told := w.until.tell(e.Payload); told != "" {
		return "has " + told
	}
	return "exists"
}

// command returns the command that waits for the same.
func (w entityWait) command() string {
	var b strings.Builder
	b.WriteString("attune wait " + w.entityType + ":" + w.id)
	for _, text := range w.until.texts {
		b.WriteString(" --until " + shellQuote(text))
	}
	return b.String()
}

// shellQuote returns a word as a shell takes it.
func shellQuote(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_=.,:/-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// printEntity prints a row as its caller wants it: the entity, or its payload on one
// line.
func (a *app) printEntity(e wire.Entity) error {
	if a.json {
		return a.printJSON(e)
	}
	return a.printLine("%s", compact(e.Payload))
}
