package http_test

import (
	"testing"

	"attune/pg"
	"attune/pg/live"
)

func TestEntities(t *testing.T) {
	t.Parallel()
	pool := watchedTables(t, `
		CREATE TABLE orders (id bigint PRIMARY KEY, status text, who bigint); CREATE TABLE dots (id text PRIMARY KEY); CREATE TABLE empty (id int PRIMARY KEY);
		INSERT INTO orders VALUES (9, '<paid>', 7), (100, NULL, NULL), (9007199254740993, 'new', 8);
		INSERT INTO dots VALUES ('a.b'), ('not a key'), ('b')`,
		map[string]live.WatchOptions{"orders": {Columns: []string{"status"}, UserID: "who"}, "dots": {}, "empty": {}})
	s := start(t, func(cfg *setup) { cfg.Entities = pg.NewEntities(pool) })
	cursor := s.publish(1)

	const order9 = `{"entity_type":"orders","entity_id":9,"user_id":7,"payload":{"id":9,"status":"<paid>"}}`
	const order100 = `{"entity_type":"orders","entity_id":100,"user_id":null,"payload":{"id":100,"status":null}}`
	const newest = `{"entity_type":"orders","entity_id":9007199254740993,"user_id":8,"payload":{"id":9007199254740993,"status":"new"}}`
	for path, want := range map[string]string{
		"/entities/orders":         `{"items":[` + newest + `,` + order100 + `,` + order9 + `],"more":false}`,
		"/entities/orders?limit=3": `{"items":[` + newest + `,` + order100 + `,` + order9 + `],"more":false}`,
		"/entities/orders?limit=2": `{"items":[` + newest + `,` + order100 + `],"more":true}`,
		"/entities/dots":           `{"items":[{"entity_type":"dots","entity_id":"b","user_id":null,"payload":{"id":"b"}},{"entity_type":"dots","entity_id":"a.b","user_id":null,"payload":{"id":"a.b"}}],"more":false}`,
		"/entities/empty":          `{"items":[],"more":false}`,
	} {
		a := s.get(path).want(200)
		equal(t, path, a.body, want+"\n")
		equal(t, "cursor of "+path, a.header.Get("Attune-Cursor"), cursor)
	}
	equal(t, "types", s.get("/entities").want(200).body, `{"items":[{"entity_type":"dots"},{"entity_type":"empty"},{"entity_type":"execution"},{"entity_type":"orders"}]}`+"\n")
	s.get("/entities/nothing").problem(404, "not_found", "is not watched")
	s.get("/entities/a%20b").problem(400, "invalid_parameter", "entity type")
	s.get("/entities/orders?limit=501").problem(400, "invalid_parameter", "limit", "1 to 500")
}

func TestEntities_NoLog(t *testing.T) {
	t.Parallel()
	s := start(t)
	equal(t, "types", s.get("/entities").want(200).body, `{"items":[]}`+"\n")
	s.get("/entities/orders").problem(404, "not_found", "attune db install")
}
