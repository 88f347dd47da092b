package doctor_test

import (
	"fmt"
	"testing"

	"attune/pg/doctor"
)

// A table with columns of every kind, and a trigger with that body.
func tableWith(body, returning string) string {
	return `
	CREATE TABLE orders (id bigint PRIMARY KEY, code varchar(20), note text, doc jsonb, tags text[], entity_type text, entity_id bigint, made timestamptz);
	CREATE FUNCTION orders_announce() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $body$
	BEGIN
		` + body + `
		RETURN NULL;
	` + returning + `
	END $body$;
	CREATE TRIGGER orders_announce AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION orders_announce('by_argument');`
}

const entity = `'entity_type', 'order', 'entity_id', NEW.id`

func TestExamine_PayloadSize(t *testing.T) {
	for name, tt := range map[string]struct {
		body, handler string
		level         doctor.Level
		want          []string
	}{
		"WholeRow":         {`PERFORM pg_notify('orders', to_jsonb(NEW)::text);`, "", doctor.Warning, []string{"the write itself fails", "public.orders (note, doc, tags, entity_type)"}},
		"RowToJSON":        {`PERFORM pg_notify('orders', row_to_json ( NEW )::text);`, "", doctor.Warning, []string{"doc"}},
		"Nested":           {`PERFORM pg_notify('orders', json_build_object(` + entity + `, 'data', row_to_json(NEW))::text);`, "", doctor.Warning, []string{"doc"}},
		"RowWithout":       {`PERFORM pg_notify('orders', (to_jsonb(NEW) - 'doc' - ARRAY['note', 'tags'] - '{entity_type}'::text[])::text);`, "", doctor.OK, nil},
		"RowWithoutSome":   {`PERFORM pg_notify('orders', (to_jsonb(NEW) - 'doc')::text);`, "", doctor.Warning, []string{"(note, tags, entity_type)"}},
		"Document":         {`PERFORM pg_notify('orders', json_build_object(` + entity + `, 'doc', NEW.doc)::text);`, "", doctor.Warning, []string{"(doc)"}},
		"Text":             {`PERFORM pg_notify('orders', json_build_object(` + entity + `, 'note', NEW.note)::text);`, "", doctor.Note, []string{"(note)"}},
		"Concatenated":     {`PERFORM pg_notify('orders', '{"entity_type":"o","entity_id":1,"n":"' || NEW.note || '"}');`, "", doctor.Note, []string{"(note)"}},
		"WrittenElsewhere": {`INSERT INTO orders (id, note, doc) SELECT NEW.id + 1, NEW.note, NEW.doc WHERE false; PERFORM pg_notify('orders', json_build_object(` + entity + `)::text);`, "", doctor.OK, nil},
		"Keys":             {`PERFORM pg_notify('orders', json_build_object(` + entity + `, 'code', NEW.code, 'made', NEW.made)::text);`, "", doctor.OK, nil},
		"OnlyWhether":      {`PERFORM pg_notify('orders', json_build_object(` + entity + `, 'has_doc', NEW.doc IS NOT NULL, 'kind', jsonb_typeof(NEW.doc))::text);`, "", doctor.OK, nil},
		"Guarded":          {`IF octet_length(to_jsonb(NEW)::text) < 8000 THEN PERFORM pg_notify('orders', to_jsonb(NEW)::text); END IF;`, "", doctor.OK, nil},
		"Caught":           {`PERFORM pg_notify('orders', to_jsonb(NEW)::text);`, "EXCEPTION WHEN OTHERS THEN RETURN NULL;", doctor.Warning, []string{"lost without a gap"}},
		"CommentedGuard":   {`/* octet_length(x) */ PERFORM pg_notify('orders', to_jsonb(NEW)::text); -- left(`, "", doctor.Warning, []string{"doc"}},
		"CommentedNotify":  {`-- PERFORM pg_notify('orders', to_jsonb(NEW)::text);`, "", doctor.OK, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(database(t, tableWith(tt.body, tt.handler)))
			cfg.Channels = []string{"orders"}
			want(t, examine(t, cfg), "payload_size", tt.level, tt.want...)
		})
	}
}

// What gets into a payload is followed through variables, queries and functions; what
// cannot be followed is a note, not ok.
func TestExamine_PayloadSize_Followed(t *testing.T) {
	const (
		declare = `DECLARE rec orders; r record; p jsonb; s text; n int; BEGIN `
		notify  = ` PERFORM pg_notify('orders', `
		object  = `json_build_object(` + entity + `, `
	)
	all := []string{"the write itself fails", "(note, doc, tags, entity_type)"}
	doc := []string{"the write itself fails", "(doc)"}
	for name, tt := range map[string]struct {
		body  string
		level doctor.Level
		want  []string
	}{
		"Star":            {notify + `to_jsonb(NEW.*)::text);`, doctor.Warning, all},
		"RowToJSONStar":   {notify + `row_to_json(NEW.*)::text);`, doctor.Warning, all},
		"Row":             {declare + `rec := NEW;` + notify + `row_to_json(rec)::text); END;`, doctor.Warning, all},
		"RowOrOld":        {declare + `IF TG_OP = 'DELETE' THEN r := OLD; ELSE r := NEW; END IF;` + notify + `to_json(r)::text); END;`, doctor.Warning, all},
		"RowField":        {declare + `rec := NEW;` + notify + object + `'d', rec.doc)::text); END;`, doctor.Warning, doc},
		"RowKey":          {declare + `rec := NEW;` + notify + object + `'c', rec.code)::text); END;`, doctor.OK, nil},
		"Variable":        {declare + `p := NEW.doc;` + notify + object + `'d', p)::text); END;`, doctor.Warning, doc},
		"Initial":         {`DECLARE d jsonb := NEW.doc; BEGIN` + notify + object + `'d', d)::text); END;`, doctor.Warning, doc},
		"SelectInto":      {declare + `SELECT to_jsonb(NEW) - 'note' INTO p;` + notify + `p::text); END;`, doctor.Warning, []string{"(doc, tags, entity_type)"}},
		"SelectIntoTwo":   {declare + `SELECT NEW.id, NEW.doc INTO n, p;` + notify + object + `'n', n)::text); END;`, doctor.OK, nil},
		"Reserved":        {notify + object + `'a', NEW."order", 'b', NEW.order, 'c', NEW.from)::text);`, doctor.OK, nil},
		"Coalesce":        {notify + object + `'d', coalesce(NEW.doc, '{}'))::text);`, doctor.Warning, doc},
		"Case":            {notify + object + `'d', CASE WHEN NEW.note = 'x' THEN NEW.doc END)::text);`, doctor.Warning, doc},
		"Quoted":          {notify + object + `'d', NEW."doc")::text);`, doctor.Warning, doc},
		"Array":           {notify + `json_agg(NEW)::text);`, doctor.Warning, all},
		"Subquery":        {notify + `(SELECT row_to_json(x) FROM (SELECT NEW.*) x)::text);`, doctor.Warning, all},
		"SubqueryOfSome":  {notify + `(SELECT row_to_json(x) FROM (SELECT NEW.id, NEW.made) x)::text);`, doctor.OK, nil},
		"With":            {notify + `(WITH x AS (SELECT NEW.doc) SELECT row_to_json(x) FROM x)::text);`, doctor.Warning, doc},
		"Concatenated":    {notify + `(json_build_object(` + entity + `)::jsonb || jsonb_build_object('d', NEW.doc))::text);`, doctor.Warning, doc},
		"TakenAway":       {declare + `p := to_jsonb(NEW.*); p := p - '{doc,note}'::text[] - 'tags' - 'entity_type';` + notify + `p::text); END;`, doctor.OK, nil},
		"TakenAwayOnceIf": {declare + `p := to_jsonb(NEW) - '{note,tags,entity_type}'::text[]; IF NEW.id > 1 THEN p := p - 'doc'; END IF;` + notify + `p::text); END;`, doctor.Note, []string{"not proved", "(doc)"}},

		// Only what measures the payload is a guard.
		"MeasuresOther":     {`IF length(NEW.note) > 3 THEN` + notify + `to_jsonb(NEW)::text); END IF;`, doctor.Warning, all},
		"MeasuresSome":      {`IF octet_length(NEW.note) < 4000 THEN` + notify + object + `'d', NEW.doc, 'n', NEW.note)::text); END IF;`, doctor.Warning, doc},
		"MeasuresPart":      {`IF length(NEW.note) > 200 THEN` + notify + object + `'n', NEW.note)::text); END IF;`, doctor.Note, []string{"not proved", "(note)"}},
		"MeasuresVariable":  {declare + `p := to_jsonb(NEW); IF octet_length(p::text) > 7900 THEN p := json_build_object(` + entity + `); END IF;` + notify + `p::text); END;`, doctor.OK, nil},
		"MeasuresOneOf":     {declare + `p := to_jsonb(NEW); IF octet_length(p::text) <= 7999 THEN s := p::text; ELSE s := NEW.id::text; END IF;` + notify + `s); END;`, doctor.OK, nil},
		"MeasuresInCase":    {declare + `p := to_jsonb(NEW);` + notify + `CASE WHEN octet_length(p::text) < 8000 THEN p::text ELSE NEW.id::text END); END;`, doctor.OK, nil},
		"MeasuresAndKeeps":  {declare + `p := to_jsonb(NEW); IF octet_length(p::text) < 8000 THEN p := p || '{}'; END IF;` + notify + object + `'p', p)::text); END;`, doctor.Note, []string{"not proved", "doc"}},
		"MeasuresTooMuch":   {declare + `p := to_jsonb(NEW); IF octet_length(p::text) < 8192 THEN` + notify + `p::text); END IF; END;`, doctor.Note, []string{"not proved"}},
		"MeasuresInLetters": {declare + `p := to_jsonb(NEW); IF length(p::text) < 7900 THEN` + notify + `p::text); END IF; END;`, doctor.Note, []string{"not proved"}},
		"SendsTheLength":    {notify + object + `'d', NEW.doc, 'size', octet_length(NEW.doc::text))::text);`, doctor.Warning, doc},
		"Cut":               {notify + object + `'n', left(NEW.note, 100), 's', substr(NEW.doc::text, 1, 100))::text);`, doctor.OK, nil},
		"CutAlmost":         {notify + `left(to_jsonb(NEW)::text, 7999));`, doctor.Note, []string{"not proved"}},
		"CutElsewhere":      {`IF left(NEW.note, 1) = 'x' THEN` + notify + `to_jsonb(NEW)::text); END IF;`, doctor.Warning, all},

		// What stands there and goes nowhere.
		"Condition":  {`IF NEW.doc IS DISTINCT FROM OLD.doc OR NEW.note LIKE 'a%' THEN` + notify + object + `'same', NEW.doc = OLD.doc)::text); END IF;`, doctor.OK, nil},
		"OtherValue": {declare + `p := NEW.doc; s := NEW.id;` + notify + object + `'s', s)::text); END;`, doctor.OK, nil},
		"Number":     {notify + object + `'n', (NEW.doc ->> 'n')::int, 'm', cast(NEW.doc ->> 'm' AS bigint), 'h', md5(NEW.note), 'l', jsonb_array_length(NEW.doc))::text);`, doctor.OK, nil},
		"Count":      {notify + object + `'n', (SELECT count(*) FROM orders o WHERE o.note = NEW.note))::text);`, doctor.OK, nil},
		"Words":      {notify + object + `'op', TG_OP, 'table', TG_TABLE_NAME, 'at', to_char(now(), 'YYYY'), 'day', extract(day FROM NEW.made), 'who', current_user)::text);`, doctor.OK, nil},
		"Loop":       {declare + `FOR i IN 1 .. 3 LOOP` + notify + object + `'i', i)::text); END LOOP; END;`, doctor.OK, nil},

		// Nobody can tell.
		"Part":       {notify + object + `'d', NEW.doc -> 'd', 't', NEW.tags[1])::text);`, doctor.Note, []string{"not proved", "(doc, tags)"}},
		"Table":      {notify + `(SELECT row_to_json(o) FROM public.orders o WHERE o.id = NEW.id)::text);`, doctor.Note, []string{"not proved", "rows of public.orders"}},
		"TableInto":  {declare + `SELECT * INTO rec FROM orders WHERE id = NEW.id;` + notify + `to_json(rec)::text); END;`, doctor.Note, []string{"not proved", "rows of orders"}},
		"TableLoop":  {declare + `FOR r IN SELECT note FROM orders LOOP` + notify + object + `'n', r.note)::text); END LOOP; END;`, doctor.Note, []string{"not proved", "rows of orders"}},
		"TableSent":  {`PERFORM pg_notify('orders', o.note) FROM orders o;`, doctor.Note, []string{"not proved", "rows of orders"}},
		"Function":   {notify + `describe(NEW.id)::text);`, doctor.Note, []string{"not proved", "describe()"}},
		"Setting":    {notify + object + `'q', current_query())::text);`, doctor.Note, []string{"not proved", "current_query()"}},
		"Execute":    {declare + `EXECUTE 'SELECT $1' INTO s USING NEW.note;` + notify + `s); END;`, doctor.Note, []string{"not proved", "execute"}},
		"Unassigned": {declare + notify + `s); END;`, doctor.Note, []string{"not proved", "variable s"}},
		"TooMuch":    {doubling(24), doctor.Note, []string{"not proved", "too much to follow"}},
		"Built":      {`EXECUTE 'SELECT pg_notify(''orders'', $1)' USING NEW.note;`, doctor.Note, []string{"not proved", "EXECUTE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(database(t, `CREATE FUNCTION describe(bigint) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$;`+tableWith(tt.body, "")))
			cfg.Channels = []string{"orders"}
			want(t, examine(t, cfg), "payload_size", tt.level, tt.want...)
		})
	}
}

// doubling returns a body in which each of n variables is made of the one before, twice.
func doubling(n int) string {
	declare, body := "DECLARE v0 text := NEW.id;", ""
	for i := 1; i <= n; i++ {
		declare += fmt.Sprintf(" v%d text;", i)
		body += fmt.Sprintf(" v%d := v%d || v%d;", i, i-1, i-1)
	}
	return declare + " BEGIN " + body + fmt.Sprintf(" PERFORM pg_notify('orders', v%d); END;", n)
}

// A function that sends for others is followed with what it is given.
func TestExamine_PayloadSize_Sender(t *testing.T) {
	const guarding = `CREATE FUNCTION send(topic text, body text, short text DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
		BEGIN IF octet_length(body) < 8000 THEN PERFORM pg_notify(topic, body); ELSE PERFORM pg_notify(topic, short); END IF; END $$;`
	const plain = `CREATE FUNCTION send(topic text, body text) RETURNS void LANGUAGE sql AS $$ SELECT pg_notify($1, body) $$;`
	for name, tt := range map[string]struct {
		sql, body string
		level     doctor.Level
		want      []string
	}{
		"Guarding":      {guarding, `PERFORM send('orders', to_jsonb(NEW)::text);`, doctor.OK, nil},
		"GuardingOne":   {guarding, `PERFORM send('orders', to_jsonb(NEW)::text, NEW.doc::text);`, doctor.Warning, []string{"(doc)"}},
		"Plain":         {plain, `PERFORM send('orders', to_jsonb(NEW.*)::text);`, doctor.Warning, []string{"doc"}},
		"PlainGuarded":  {plain, `IF octet_length(to_jsonb(NEW)::text) < 8000 THEN PERFORM send('orders', to_jsonb(NEW)::text); END IF;`, doctor.OK, nil},
		"PlainOfKeys":   {plain, `PERFORM send('orders', NEW.id::text);`, doctor.OK, nil},
		"PlainByName":   {plain, `PERFORM send(body => NEW.doc::text, topic => 'orders');`, doctor.Warning, []string{"(doc)"}},
		"OtherMeasured": {plain, `IF octet_length(NEW.note) < 8000 THEN PERFORM send('orders', to_jsonb(NEW)::text); END IF;`, doctor.Warning, []string{"doc"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, examine(t, config(database(t, tt.sql+tableWith(tt.body, "")))), "payload_size", tt.level, tt.want...)
		})
	}
}

// Any source is read, also one that is none.
func FuzzFollow(f *testing.F) {
	for _, seed := range []string{
		tableWith(`PERFORM pg_notify('orders', to_jsonb(NEW.*)::text);`, "EXCEPTION WHEN OTHERS THEN RETURN NULL;"), platform,
		`<<l>> DECLARE a b := CASE WHEN x THEN y END; FOR a IN SELECT x INTO a.b FROM (VALUES (1)) v LOOP pg_notify('c', a - 'k' - array['x']::t[] #- '{y}' -> a[1]) END`,
		`a := b; b := a; PERFORM pg_notify('c', b)`, `SELECT pg_notify('c', (WITH x AS (SELECT`, `$$`, `E'`, `x := ) ] ( [ :: . , .. -> -`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, source string) { doctor.Follow(source) })
}

func TestExamine_PayloadEntity(t *testing.T) {
	for name, tt := range map[string]struct {
		body  string
		level doctor.Level
		want  []string
	}{
		"Named":      {`PERFORM pg_notify('orders', json_build_object(` + entity + `)::text);`, doctor.OK, nil},
		"InColumns":  {`PERFORM pg_notify('orders', to_jsonb(NEW)::text);`, doctor.OK, nil},
		"TakenAway":  {`PERFORM pg_notify('orders', (to_jsonb(NEW) - '{entity_type,entity_id}'::text[])::text);`, doctor.OK, nil}, // read as text, the names stand there
		"Entity":     {`PERFORM pg_notify('orders', json_build_object('entity_type', 'order', 'entity', NEW.id)::text);`, doctor.OK, nil},
		"NoID":       {`PERFORM pg_notify('orders', json_build_object('entity_type', 'order', 'id', NEW.id)::text);`, doctor.Warning, []string{"(no entity_id)"}},
		"Neither":    {`PERFORM pg_notify('orders', NEW.id::text);`, doctor.Warning, []string{"(no entity_type, no entity_id)", "json_build_object"}},
		"Statement":  {`NOTIFY orders;`, doctor.Warning, []string{"(no entity_type, no entity_id)"}},
		"NotForUs":   {`PERFORM pg_notify('cache', NEW.id::text);`, doctor.OK, nil},
		"Star":       {`PERFORM pg_notify('orders', row_to_json(NEW.*)::text);`, doctor.OK, nil},
		"Variable":   {`DECLARE rec orders; BEGIN rec := NEW; PERFORM pg_notify('orders', row_to_json(rec)::text); END;`, doctor.OK, nil},
		"Subquery":   {`PERFORM pg_notify('orders', (SELECT row_to_json(x) FROM (SELECT NEW.*) x)::text);`, doctor.OK, nil},
		"Array":      {`PERFORM pg_notify('orders', json_agg(NEW)::text);`, doctor.Warning, []string{"an array, no object"}}, // attune skips it
		"ArrayToo":   {`PERFORM pg_notify('cache', json_agg(NEW)::text); PERFORM pg_notify('orders', to_jsonb(NEW)::text);`, doctor.OK, nil},
		"Document":   {`PERFORM pg_notify('orders', NEW.doc::text);`, doctor.Note, []string{"may name an entity", "(no entity_type, no entity_id)"}},
		"Function":   {`PERFORM pg_notify('orders', describe(NEW.id)::text);`, doctor.Note, []string{"may name an entity"}},
		"Members":    {`PERFORM pg_notify('orders', json_build_object('id', NEW.id, 'more', NEW.doc -> 'x')::text);`, doctor.Warning, []string{"(no entity_type, no entity_id)"}},
		"AnyChannel": {`PERFORM pg_notify(NEW.code, NEW.id::text);`, doctor.Warning, []string{"(no entity_type, no entity_id)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(database(t, tableWith(tt.body, "")))
			cfg.Channels = []string{"orders"}
			want(t, examine(t, cfg), "payload_entity", tt.level, tt.want...)
		})
	}
}

func TestExamine_Channels(t *testing.T) {
	const payload = `, json_build_object(` + entity + `)::text);`
	const wrapper = `CREATE FUNCTION send(topic text, body text) RETURNS void LANGUAGE sql AS $$ SELECT pg_notify(topic, body) $$;`
	for name, tt := range map[string]struct {
		sql   string
		level doctor.Level
		want  []string
	}{
		"Heard":     {tableWith(`PERFORM pg_notify('orders'`+payload, ""), doctor.OK, nil},
		"Quoted":    {tableWith(`PERFORM "pg_catalog"."pg_notify"('orders'::text`+payload, ""), doctor.OK, nil},
		"Statement": {tableWith(`NOTIFY "orders", '{}';`, ""), doctor.OK, nil},
		"Wrapper":   {wrapper + tableWith(`PERFORM send('orders'`+payload, ""), doctor.OK, nil},
		"Dynamic":   {tableWith(`PERFORM pg_notify(NEW.code`+payload, ""), doctor.Note, []string{"not seen to notify 1: orders"}},
		"Unheard":   {tableWith(`PERFORM pg_notify('order_changed'`+payload, ""), doctor.Warning, []string{"but others: order_changed", "ATTUNE_CHANNELS=order_changed"}},
		"Argument":  {tableWith(`PERFORM pg_notify(TG_ARGV[0]`+payload, ""), doctor.Warning, []string{"ATTUNE_CHANNELS=by_argument"}},
		"Both":      {tableWith(`PERFORM pg_notify('orders'`+payload+` PERFORM pg_notify('audit'`+payload, ""), doctor.Note, []string{"does not listen to: audit"}},
		"Nothing":   {`SELECT 1`, doctor.Warning, []string{"no trigger notifies any", "attune db watch"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(database(t, tt.sql))
			cfg.Channels = []string{"orders"}
			want(t, examine(t, cfg), "channels", tt.level, tt.want...)
		})
	}
}

func TestExamine_Triggers(t *testing.T) {
	url := database(t, tableWith(`PERFORM pg_notify('orders', '{}');`, ""))
	want(t, examine(t, config(url)), "triggers", doctor.OK, "1 trigger seen")
	want(t, examine(t, config(url)), "search_path", doctor.OK)
	execute(t, url, `ALTER TABLE orders DISABLE TRIGGER orders_announce`)
	want(t, examine(t, config(url)), "triggers", doctor.Warning, "orders_announce on public.orders", "ENABLE TRIGGER")

	t.Run("Partitions", func(t *testing.T) {
		url := database(t, `
			CREATE TABLE events (id bigint, day date) PARTITION BY RANGE (day);
			CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
			CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
			CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('events', '{}'); RETURN NULL; END $$;
			CREATE TRIGGER tell AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION tell();`)
		want(t, examine(t, config(url)), "triggers", doctor.OK, "1 trigger seen")
	})
}
