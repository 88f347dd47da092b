// Package doctor examines a database the way an operator would before he relies on
// its notifications, and says what it found and what to do about it.
//
// It reads catalogs, settings and statistics, and sends one NOTIFY, on a channel of
// its own: nothing else is written. It is bounded in time, whatever does not answer.
// No finding contains a password or anything from a row of a table.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How long an examination may take: all of it, the connections, and each check. What
// there was no time for is said.
const (
	examineTimeout = 9 * time.Second
	connectTimeout = 3 * time.Second
	checkTimeout   = 2 * time.Second
)

// longTransaction is how old a transaction gets before somebody should look at it.
const longTransaction = 5 * time.Minute

// Config says what to examine, and what for.
type Config struct {
	// DatabaseURL is a connection string as libpq knows it. ListenURL is where LISTEN
	// goes; empty: the same.
	DatabaseURL, ListenURL string
	// Schema is where the execution table is looked for before the search path.
	Schema string
	// Channels are those that are listened to.
	Channels []string
	// LogNeeded says that only the source log will do.
	LogNeeded bool
	// LongTransaction is the age from which an idle transaction is reported; 0: 5
	// minutes.
	LongTransaction time.Duration
}

// Level says how much a finding matters.
type Level string

// The levels. Only a warning or a problem needs action.
const (
	OK      Level = "ok"
	Note    Level = "note"    // good to know
	Warning Level = "warning" // will go wrong one day, or for some notifications
	Problem Level = "problem" // does not work
)

// NeedsAction reports whether somebody has to do something.
func (l Level) NeedsAction() bool { return l == Warning || l == Problem }

// Finding is what a check found. Message and Remedy are one line each,
// without control characters; Remedy is ""
// where there is nothing to do.
type Finding struct {
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

// Report is the result of an examination.
type Report struct {
	// OK says that nothing needs action.
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
}

// check is one thing to look at. It returns at least one finding, without its name.
type check struct {
	name string
	run  func(context.Context, *patient) []Finding
}

// checks are all that are made on a database that answers, in this order.
func checks() []check {
	return []check{
		{"version", checkVersion},
		{"standby", checkStandby},
		{"writable", checkWritable},
		{"encoding", checkEncoding},
		{"pooler", checkPooler},
		{"listen", checkListen},
		{"keepalive", checkKeepalive},
		{"timeouts", checkTimeouts},
		{"queue", checkQueue},
		{"listeners", checkListeners},
		{"connections", checkConnections},
		{"privileges", checkPrivileges},
		{"executions", checkExecutions},
		{"log", checkLog},
		{"triggers", checkTriggers},
		{"payload_size", checkPayloadSize},
		{"payload_entity", checkPayloadEntity},
		{"search_path", checkSearchPath},
		{"channels", checkChannels},
	}
}

// patient is the database under examination.
type patient struct {
	cfg      Config
	pool     *pgxpool.Pool
	listen   *connection // where LISTEN goes; nil when it could not be reached
	unheard  error       // why not
	standby  bool
	triggers *triggers // read by the first check that needs them
}

// Examine makes all checks.
func Examine(ctx context.Context, cfg Config) Report {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	if cfg.LongTransaction == 0 {
		cfg.LongTransaction = longTransaction
	}
	p, found := admit(ctx, cfg)
	report := Report{OK: true, Findings: named("reachable", found)}
	if p != nil {
		defer p.discharge()
		for _, c := range checks() {
			report.Findings = append(report.Findings, named(c.name, p.make(ctx, c))...)
		}
	}
	for _, f := range report.Findings {
		report.OK = report.OK && !f.Level.NeedsAction()
	}
	return report
}

// make makes one check within its time.
func (p *patient) make(ctx context.Context, c check) []Finding {
	if ctx.Err() != nil {
		return warning("not examined: the database took too long to answer", tooSlow)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.run(ctx, p)
}

// named gives findings the name of their check, and keeps each on its line: a name in
// a database may have any character, and some command a terminal.
func named(name string, findings []Finding) []Finding {
	printable := func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}
	for i, f := range findings {
		findings[i] = Finding{Check: name, Level: f.Level, Message: strings.Map(printable, f.Message), Remedy: strings.Map(printable, f.Remedy)}
	}
	return findings
}

// ok, note, warning and problem return one finding.
func ok(format string, args ...any) []Finding {
	return []Finding{{Level: OK, Message: fmt.Sprintf(format, args...)}}
}

func note(message, remedy string) []Finding {
	return []Finding{{Level: Note, Message: message, Remedy: remedy}}
}

func warning(message, remedy string) []Finding {
	return []Finding{{Level: Warning, Message: message, Remedy: remedy}}
}

func problem(message, remedy string) []Finding {
	return []Finding{{Level: Problem, Message: message, Remedy: remedy}}
}

// unread is the finding of a check that could not read what it needs.
func unread(what string, err error) []Finding {
	if timedOut(err) {
		return warning(what+" could not be read: no answer in time", tooSlow)
	}
	return note(fmt.Sprintf("%s could not be read: %s", what, reason(err)), "give the role the right to read it, or run this as one that has it")
}

const tooSlow = "run it again; if that does not help, look at the load of the server, and for locks on its catalogs"

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err)
}

// reason says in one line why something did not work, without what only the server's
// administrator should see.
func reason(err error) string {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("%s (SQLSTATE %s)", server.Message, server.Code)
	}
	if timedOut(err) {
		return "no answer in time"
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok { // it holds the password
		err = connect.Unwrap()
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// list writes names for people: the first few, and how many more there are.
func list(names []string) string {
	const most = 6
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// plural returns "1 trigger", "2 triggers".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// quoted returns an identifier as SQL takes it.
func quoted(name ...string) string { return pgx.Identifier(name).Sanitize() }
