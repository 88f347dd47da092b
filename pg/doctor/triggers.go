package doctor

import (
	"bytes"
	"context"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"attune/pg/live"
)

// function is a function that notifies.
type function struct {
	oid       uint32
	name      string // qualified, for people
	call      string // as it is called: without schema
	language  string
	source    string // without comments
	arguments []string
	pinned    bool // has a search_path of its own
}

// trigger is a trigger whose function notifies, by itself or by one that it calls.
type trigger struct {
	name      string // "orders_announce on public.orders", for people
	function  *function
	source    string      // of its function and of the senders
	senders   []*function // those that it calls to notify
	sent      sent
	channels  []string
	elsewhere bool // notifies channels that cannot be read from the source
	enabled   bool
	columns   []column
	pinned    bool
}

// column is a column of a trigger's table.
type column struct {
	name string
	// unbounded: a value may be of any size. document: that is what the type is for
	// (json, bytea, xml, arrays), as opposed to text, which mostly is short.
	unbounded, document bool
}

// triggers are those that notify.
type triggers struct {
	all []*trigger
	err error // why they could not be read
}

// notifiers reads the triggers once.
func (p *patient) notifiers(ctx context.Context) *triggers {
	if p.triggers == nil {
		all, err := readTriggers(ctx, p)
		p.triggers = &triggers{all: all, err: err}
	}
	return p.triggers
}

func readTriggers(ctx context.Context, p *patient) ([]*trigger, error) {
	functions, err := readFunctions(ctx, p)
	if err != nil {
		return nil, err
	}
	rows, err := p.pool.Query(ctx, `
		SELECT t.tgfoid, format('%s on %s.%s', t.tgname, n.nspname, c.relname), t.tgenabled IN ('O', 'A'), t.tgargs,
		       array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
		       array(SELECT CASE
		               WHEN b.typname IN ('json', 'jsonb', 'bytea', 'xml', 'hstore', 'tsvector') OR b.typcategory IN ('A', 'C') THEN 'document'
		               WHEN b.typcategory = 'S' AND b.typname <> 'name' AND (b.typname = 'text' OR coalesce(nullif(a.atttypmod, -1), d.typtypmod) NOT BETWEEN 0 AND 4000) THEN 'text'
		               ELSE '' END
		             FROM pg_attribute a JOIN pg_type d ON d.oid = a.atttypid
		             JOIN pg_type b ON b.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
		             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT t.tgisinternal AND n.nspname <> $1
		  -- The copies that partitions have of their parent's trigger say nothing new.
		  AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_trigger u ON u.tgrelid = i.inhparent AND u.tgfoid = t.tgfoid AND u.tgname = t.tgname
		                  WHERE i.inhrelid = t.tgrelid)
		ORDER BY 2`, live.Schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*trigger
	for rows.Next() {
		var t trigger
		var oid uint32
		var args []byte
		var names, kinds []string
		if err := rows.Scan(&oid, &t.name, &t.enabled, &args, &names, &kinds); err != nil {
			return nil, err
		}
		for i, name := range names {
			t.columns = append(t.columns, column{name: name, unbounded: kinds[i] != "", document: kinds[i] == "document"})
		}
		if t.resolve(oid, strings.Split(string(bytes.TrimSuffix(args, []byte{0})), "\x00"), functions) {
			all = append(all, &t)
		}
	}
	if err := rows.Err(); err != nil || len(all) == 0 {
		return nil, err
	}
	routines, err := readRoutines(ctx, p, all)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		t.follow(routines)
	}
	return all, nil
}

// readRoutines reads what there is to know of the functions that triggers may call.
func readRoutines(ctx context.Context, p *patient, triggers []*trigger) (map[string]routine, error) {
	words := regexp.MustCompile(`[\pL_][\pL\pN_$]*`)
	names := make(map[string]bool)
	for _, t := range triggers {
		for _, w := range words.FindAllString(t.source, -1) {
			names[w], names[strings.ToLower(w)] = true, true
		}
	}
	rows, err := p.pool.Query(ctx, `
		SELECT p.proname::text, bool_and(p.pronamespace = 'pg_catalog'::regnamespace),
		       bool_and(NOT p.proretset AND (t.typcategory IN ('B', 'D', 'E', 'I', 'N', 'T') OR t.typname IN ('uuid', 'name', 'char', 'void')))
		FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
		WHERE p.proname = ANY ($1) GROUP BY 1`, slices.Collect(maps.Keys(names)))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	routines := make(map[string]routine)
	for rows.Next() {
		var name string
		var r routine
		if err := rows.Scan(&name, &r.builtin, &r.bounded); err != nil {
			return nil, err
		}
		routines[name] = r
	}
	return routines, rows.Err()
}

// readFunctions reads the functions of triggers, and those that notify: the latter
// may be called by the former.
func readFunctions(ctx context.Context, p *patient) ([]*function, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT p.oid, format('%s.%s', n.nspname, p.proname), p.proname::text, l.lanname::text, p.prosrc, coalesce(p.proargnames, '{}'),
		       EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
		WHERE l.lanname NOT IN ('internal', 'c') AND n.nspname NOT IN ('pg_catalog', 'information_schema', $1)
		  AND (p.prosrc ~* '\mnotify\M|pg_notify' OR p.oid IN (SELECT tgfoid FROM pg_trigger WHERE NOT tgisinternal))
		  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
		ORDER BY 2, 1`, live.Schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*function, error) {
		var f function
		err := row.Scan(&f.oid, &f.name, &f.call, &f.language, &f.source, &f.arguments, &f.pinned)
		f.source = uncommented(f.source)
		return &f, err
	})
}

// resolve finds out what a trigger notifies, given its function's oid and its
// arguments. It returns false when that is nothing.
func (t *trigger) resolve(oid uint32, args []string, functions []*function) bool {
	i := slices.IndexFunc(functions, func(f *function) bool { return f.oid == oid })
	if i < 0 {
		return false
	}
	t.function = functions[i]
	t.source, t.pinned = t.function.source, t.function.pinned
	sent := calls(t.source, "pg_notify")
	t.channels = notifyStatements(t.source)
	notifies := len(sent)+len(t.channels) > 0
	for _, call := range sent {
		t.addChannel(call[0], args)
	}
	for _, f := range functions {
		if f.oid == oid {
			continue
		}
		inner := calls(f.source, "pg_notify")
		outer := calls(t.function.source, f.call)
		if len(outer) == 0 || len(inner)+len(notifyStatements(f.source)) == 0 {
			continue
		}
		notifies = true
		t.senders = append(t.senders, f)
		t.source += "\n" + f.source
		t.pinned = t.pinned && f.pinned
		t.channels = append(t.channels, notifyStatements(f.source)...)
		for _, call := range inner {
			parameter := f.parameter(call[0])
			for _, given := range outer {
				if parameter >= 0 && parameter < len(given) {
					t.addChannel(given[parameter], args)
				} else {
					t.addChannel(call[0], nil)
				}
			}
		}
	}
	slices.Sort(t.channels)
	t.channels = slices.Compact(t.channels)
	return notifies
}

// parameter returns which parameter of f an expression is, -1 if it is none.
func (f *function) parameter(expression string) int {
	expression, _, _ = strings.Cut(expression, "::")
	expression = strings.TrimSpace(expression)
	if number, ok := strings.CutPrefix(expression, "$"); ok {
		n, err := strconv.Atoi(number)
		if err != nil {
			return -1
		}
		return n - 1
	}
	_, bare, qualified := strings.Cut(expression, ".")
	if !qualified {
		bare = expression
	}
	return slices.IndexFunc(f.arguments, func(name string) bool { return strings.EqualFold(name, bare) })
}

// addChannel notes the channel that an expression names.
func (t *trigger) addChannel(expression string, args []string) {
	if name, ok := literal(expression); ok {
		t.channels = append(t.channels, name)
		return
	}
	argument := regexp.MustCompile(`(?i)^tg_argv\s*\[\s*(\d+)\s*\]`)
	if m := argument.FindStringSubmatch(expression); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n < len(args) {
			t.channels = append(t.channels, args[n])
			return
		}
	}
	t.elsewhere = true
}

// listened reports whether a trigger may notify a channel that is listened to.
func (t *trigger) listened(channels []string) bool {
	return t.elsewhere || slices.ContainsFunc(t.channels, func(c string) bool { return slices.Contains(channels, c) })
}

// checkTriggers tells which triggers notify.
func checkTriggers(ctx context.Context, p *patient) []Finding {
	found := p.notifiers(ctx)
	if found.err != nil {
		return unread("the triggers", found.err)
	}
	var off []string
	for _, t := range found.all {
		if !t.enabled {
			off = append(off, t.name)
		}
	}
	if len(off) > 0 {
		return warning("triggers that notify are disabled: "+list(off), "ALTER TABLE … ENABLE TRIGGER …, or drop those that nobody needs")
	}
	if len(found.all) == 0 {
		return ok("no trigger is seen to notify")
	}
	return ok("%s seen to notify", plural(len(found.all), "trigger"))
}
