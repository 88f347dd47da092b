package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"attune/pg"
	"attune/pg/live"
)

// dbCommand returns `attune db`, which makes any database a source of notifications
// that survive restarts.
func dbCommand(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Keep a log of notifications in a database, and watch its tables",
		Long: "Keep a log of notifications in a database, and watch its tables.\n\n" +
			"`attune db install` makes the schema attune_live, `attune db watch` has the changes of a table written into its\n" +
			"log. Both need the rights of the tables' owner, the first CREATE on the database besides, neither those of a\n" +
			"superuser. They can print their SQL instead of running it.",
	}
	cmd.AddCommand(dbInstall(environ), dbUninstall(environ), dbWatch(environ), dbUnwatch(environ), dbStatus(environ))
	return cmd
}

// dbSettings are the settings of attune db.
func dbSettings() []setting {
	return slices.DeleteFunc(settings(), func(s setting) bool { return s.name != "ATTUNE_DATABASE_URL" })
}

// withDatabase makes do the work of cmd, on the database that its settings name.
func withDatabase(environ map[string]string, cmd *cobra.Command, do func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settled := flagged(cmd, environ, dbSettings())
		url := settled["ATTUNE_DATABASE_URL"]
		if url == "" {
			url = settled["DATABASE_URL"]
		}
		if url == "" {
			return errors.New("which database? set ATTUNE_DATABASE_URL or DATABASE_URL, or use --database-url")
		}
		pool, err := pg.Connect(cmd.Context(), url)
		if err != nil {
			return err
		}
		defer pool.Close()
		err = do(cmd.Context(), pool, cmd.OutOrStdout(), args)
		if errors.Is(err, live.ErrNotInstalled) {
			return fmt.Errorf("%w: attune db install makes it", err)
		}
		return err
	}
	addFlags(cmd, dbSettings())
	return cmd
}

func dbInstall(environ map[string]string) *cobra.Command {
	var dry bool
	cmd := withDatabase(environ, &cobra.Command{
		Use: "install", Short: "Make the schema attune_live, or bring it up to date", Args: cobra.NoArgs,
	}, func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, _ []string) error {
		if dry {
			return say(out, live.InstallSQL())
		}
		if err := live.Install(ctx, pool); err != nil {
			return err
		}
		return say(out, "installed: writers may call attune_live.notify(), tables may be watched\n")
	})
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the SQL instead of running it")
	return cmd
}

func dbUninstall(environ map[string]string) *cobra.Command {
	var dry bool
	cmd := withDatabase(environ, &cobra.Command{
		Use: "uninstall", Short: "Take back all that install and watch have made", Args: cobra.NoArgs,
	}, func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, _ []string) error {
		if dry {
			sql, leftovers, err := live.UninstallSQL(ctx, pool)
			if err != nil {
				return err
			}
			return errors.Join(say(out, sql), sayLeftovers(out, "-- stays: ", leftovers))
		}
		leftovers, err := live.Uninstall(ctx, pool)
		if err != nil {
			return err
		}
		return errors.Join(say(out, "uninstalled\n"), sayLeftovers(out, "stays: ", leftovers))
	})
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the SQL instead of running it")
	return cmd
}

// sayLeftovers names what is in the schema and is not ours to drop.
func sayLeftovers(out io.Writer, prefix string, leftovers []live.Leftover) error {
	var b strings.Builder
	for _, l := range leftovers {
		fmt.Fprintf(&b, "%s%s\n", prefix, l)
	}
	return say(out, b.String())
}

func dbWatch(environ map[string]string) *cobra.Command {
	var dry bool
	var o live.WatchOptions
	cmd := withDatabase(environ, &cobra.Command{
		Use:   "watch TABLE",
		Short: "Have a table's changes announced",
		Long: "Have a table's changes announced: rows that are inserted, updated in one of the columns, or deleted become\n" +
			"notifications on the channels <table>_created, <table>_changed and <table>_deleted. Watching a table again\n" +
			"replaces how it was watched.",
		Example: "  attune db watch public.orders --columns status,total --user-id customer_id\n" +
			"  curl -N 'localhost:8081/events?filter=entity:orders:42'",
		Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, args []string) error {
		if dry {
			sql, err := live.WatchSQL(ctx, pool, args[0], o)
			if err == nil && sql == "" {
				sql = "-- watched like that already\n"
			}
			return errors.Join(err, say(out, sql))
		}
		if err := live.Watch(ctx, pool, args[0], o); err != nil {
			return err
		}
		return say(out, "watched: "+args[0]+"\n")
	})
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "print the SQL instead of running it")
	f.StringSliceVar(&o.Columns, "columns", nil, "columns that are told, and whose change is (default: all)")
	f.StringSliceVar(&o.On, "on", nil, "columns whose change is told, where these are not --columns")
	f.StringSliceVar(&o.Old, "old", nil, "columns whose value before an update is told too, as old_<column>")
	f.StringVar(&o.Key, "key", "", "the column that identifies a row (default: the primary key)")
	f.StringVar(&o.UserID, "user-id", "", "the column that says who may see the row's notifications (default: everybody may)")
	f.StringVar(&o.EntityType, "entity-type", "", "the entity type (default: the table's name)")
	f.StringVar(&o.Created, "created", "", "channel of inserts, - for none (default: <entity type>_created)")
	f.StringVar(&o.Changed, "changed", "", "channel of updates, - for none (default: <entity type>_changed)")
	f.StringVar(&o.Deleted, "deleted", "", "channel of deletes, - for none (default: <entity type>_deleted)")
	return cmd
}

func dbUnwatch(environ map[string]string) *cobra.Command {
	var dry bool
	cmd := withDatabase(environ, &cobra.Command{
		Use: "unwatch TABLE", Short: "Take back what watch has made for a table", Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, args []string) error {
		if dry {
			sql, err := live.UnwatchSQL(ctx, pool, args[0])
			return errors.Join(err, say(out, sql))
		}
		if err := live.Unwatch(ctx, pool, args[0]); err != nil {
			return err
		}
		return say(out, "no longer watched: "+args[0]+"\n")
	})
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the SQL instead of running it")
	return cmd
}

func dbStatus(environ map[string]string) *cobra.Command {
	var asJSON bool
	cmd := withDatabase(environ, &cobra.Command{
		Use: "status", Short: "Tell what the log holds and which tables are watched", Args: cobra.NoArgs,
	}, func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, _ []string) error {
		status, err := live.ReadStatus(ctx, pool)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(out).Encode(status)
		}
		return writeStatus(out, status)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// writeStatus prints a status for people.
func writeStatus(out io.Writer, s live.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "log\t%s, %d rows, %d bytes\n", s.LogID, s.Rows, s.Bytes)
	if s.Oldest != nil && s.Newest != nil {
		fmt.Fprintf(w, "reaches\tfrom %d (%s) to %d (%s)\n", s.OldestSeq, s.Oldest.Format(time.RFC3339), s.NewestSeq, s.Newest.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "losses\t%d\n", s.Losses)
	for _, watch := range s.Watches {
		state := "ok"
		if len(watch.Problems) > 0 {
			state = strings.Join(watch.Problems, "; ")
		}
		fmt.Fprintf(w, "watches\t%s: %s\n", watch.Table, state)
	}
	return w.Flush()
}

func say(out io.Writer, text string) error {
	_, err := io.WriteString(out, text)
	return err
}
