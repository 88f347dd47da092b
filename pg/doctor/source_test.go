package doctor_test

import (
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
