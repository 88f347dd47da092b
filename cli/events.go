package cli

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"attune/client"
	"attune/wire"
)

func (a *app) events() *cobra.Command {
	var (
		filters []string
		cursor  string
		sse     bool
	)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print notifications as they arrive",
		Long: `Print notifications as they arrive, until Ctrl-C. A lost connection is made anew and
resumes where it was.

A line is: time, notification type, entity type, entity id, payload. With --json each
notification is printed as it travels, one object a line, and so is what tells of the
stream itself: {"type":"gap",...} where notifications may be missing, and
{"type":"status",...} when the health of the server's source changes.

Filters: ` + wire.FilterForms + `.
A notification that matches one of several is printed.`,
		Example: `  attune events --filter entity_type:execution
  attune events --filter entity:execution:51 --filter notification_type:inquiry_created --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range filters {
				if _, err := wire.ParseFilter(f); err != nil {
					return &usageError{err}
				}
			}
			if len(filters) == 0 {
				filters = []string{"all"}
			}
			opts := client.StreamOptions{Cursor: cursor}
			if sse {
				opts.Transport = client.SSE
			}
			return a.follow(cmd.Context(), filters, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&filters, "filter", nil, "print what matches; may be repeated (default all)")
	flags.StringVar(&cursor, "cursor", "", "start after this position instead of now")
	flags.BoolVar(&sse, "sse", false, "over Server-Sent Events instead of WebSocket")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "nothing but notifications")
	a.jsonFlag(cmd, "print JSON, one object a line")
	return cmd
}

// follow prints what a stream brings until ctx is done.
func (a *app) follow(ctx context.Context, filters []string, opts client.StreamOptions) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	p := a.printer()
	last := opts.Cursor
	opts.Connected = func(url string) { p.line("[notifier] connected to %s", url) }
	opts.Lost = func(err error, retry time.Duration) {
		p.line("[notifier] %s; retrying in %s", err, retry.Round(time.Millisecond))
	}
	err = c.Stream(ctx, filters, opts, func(m wire.ServerMessage) error {
		err := a.event(p, m)
		if err == nil {
			last = after(last, m)
		}
		return err
	})
	if ctx.Err() != nil {
		if last != "" {
			transport := ""
			if opts.Transport == client.SSE {
				transport = " --sse"
			}
			p.always("To go on from here: attune events%s%s --cursor %s%s", flagged(" --filter ", filters), transport, last, a.again())
		}
		return &SaidError{ExitDetached}
	}
	return err
}

// event prints one message of a stream.
func (a *app) event(p *printer, m wire.ServerMessage) error {
	switch m := m.(type) {
	case wire.Notification:
		if a.json {
			return a.printLine("%s", wire.EncodeServerMessage(m))
		}
		return a.printLine("%s %s %s %s %s", m.Timestamp.UTC().Format(wire.TimestampLayout),
			printable(m.NotificationType, ""), m.EntityType, m.EntityID, compact(m.Payload))
	case wire.Welcome:
		if m.ClientID != "" {
			p.line("[notifier] session id %s", m.ClientID)
		}
		if m.Mode == wire.ModeDegraded {
			return a.event(p, wire.SourceStatus{Mode: m.Mode})
		}
	case wire.Subscribed:
		p.line("[notifier] subscribed to %s", m.Filter)
	case wire.Gap:
		if a.json {
			return a.printLine("%s", wire.EncodeServerMessage(m))
		}
		p.always("[notifier] notifications may be missing here: %s", m.Reason)
	case wire.SourceStatus:
		if a.json {
			return a.printLine("%s", wire.EncodeServerMessage(m))
		}
		p.line("[notifier] the server's source is %s", m.Mode)
	case wire.Bye:
		p.line("[notifier] the server says goodbye: %s", m.Reason)
	case *wire.Error:
		p.line("[notifier] %s", m)
	case wire.Unsubscribed, wire.Pong, wire.Authenticated:
	}
	return nil
}

// after returns the position after m, when the one before m was last. Where a stream
// starts counts only at first: on a resume, a gap before it may not have been told yet.
func after(last string, m wire.ServerMessage) string {
	at := last
	switch m := m.(type) {
	case wire.Notification:
		at = m.Cursor.String()
	case wire.Gap:
		at = m.Cursor.String()
	case wire.Subscribed:
		at = cmp.Or(last, m.Cursor.String())
	case wire.Welcome:
		if m.Cursor != nil {
			at = cmp.Or(last, m.Cursor.String())
		}
	case wire.Unsubscribed, wire.SourceStatus, wire.Bye, wire.Pong, wire.Authenticated, *wire.Error:
	}
	return cmp.Or(at, last)
}

func flagged(flag string, values []string) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(flag + v)
	}
	return b.String()
}
