package http_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"attune/broadcast"
	attunehttp "attune/http"
	"attune/pg"
	"attune/pg/live"
	"attune/web"
	"attune/wire"
)

func TestEntity(t *testing.T) {
	t.Parallel()
	pool := watchedTables(t, `
		CREATE TABLE orders (id int PRIMARY KEY, status text, who int);
		CREATE TABLE parcels (id uuid PRIMARY KEY, note text);
		CREATE TABLE dots (id text PRIMARY KEY);
		INSERT INTO orders VALUES (42, '<paid>', 7), (43, NULL, NULL);
		INSERT INTO parcels VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'é');
		INSERT INTO dots VALUES ('..'), ('a.b')`,
		map[string]live.WatchOptions{"orders": {Columns: []string{"status"}, UserID: "who"}, "parcels": {}, "dots": {}})
	s := start(t, func(cfg *setup) { cfg.Entities = pg.NewEntities(pool) })
	cursor := s.publish(1)

	for path, want := range map[string]string{
		"/entities/orders/42": `{"entity_type":"orders","entity_id":42,"user_id":7,"payload":{"id":42,"status":"<paid>"}}`,
		"/entities/orders/43": `{"entity_type":"orders","entity_id":43,"user_id":null,"payload":{"id":43,"status":null}}`,
		"/entities/parcels/a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11": `{"entity_type":"parcels","entity_id":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","user_id":null,` +
			`"payload":{"id":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","note":"é"}}`,
		"/entities/dots/%2e%2E": `{"entity_type":"dots","entity_id":"..","user_id":null,"payload":{"id":".."}}`,
		"/entities/dots/a.b":    `{"entity_type":"dots","entity_id":"a.b","user_id":null,"payload":{"id":"a.b"}}`,
	} {
		a := s.get(path).want(200)
		equal(t, path, a.body, want+"\n")
		equal(t, "cursor", a.header.Get("Attune-Cursor"), cursor)
	}

	a := s.get("/entities/orders/42").want(200)
	etag := a.header.Get("ETag")
	if !strings.HasPrefix(etag, `"`) {
		t.Errorf("ETag %s: want a strong one", etag)
	}
	a = s.get("/entities/orders/42", "If-None-Match", `"other", `+etag).want(304)
	equal(t, "cursor of 304", a.header.Get("Attune-Cursor"), cursor)
	if _, err := pool.Exec(t.Context(), `UPDATE orders SET status = 'shipped'`); err != nil {
		t.Fatal(err)
	}
	if a = s.get("/entities/orders/42", "If-None-Match", etag).want(200); a.header.Get("ETag") == etag {
		t.Error("another row with the same ETag")
	}
	equal(t, "HEAD", s.do("HEAD", "/entities/orders/42", "").want(200).body, "")

	for _, id := range []string{"7", "abc", "4.2", "042", strings.Repeat("9", 128)} {
		a := s.get("/entities/orders/" + id)
		a.problem(404, "not_found", "orders "+id+" was not found")
		equal(t, "cursor where there is no row", a.header.Get("Attune-Cursor"), cursor)
	}
	a = s.get("/entities/customers/1")
	a.problem(404, "not_found", `"customers" is not watched`, "attune db watch")
	equal(t, "cursor where nothing was looked for", a.header.Get("Attune-Cursor"), "")
	for _, path := range []string{"/entities/or%20ders/1", "/entities/orders/a%2Fb", "/entities/orders/" + strings.Repeat("x", 129), "/entities/" + strings.Repeat("x", 64) + "/1"} {
		s.get(path).problem(400, "invalid_parameter", "A-Za-z0-9_.-")
	}
	s.do("POST", "/entities/orders/42", "{}").problem(405, "method_not_allowed", "POST")
}

func TestEntity_NoLog(t *testing.T) {
	t.Parallel()
	a := start(t).get("/entities/orders/42")
	a.problem(404, "not_found", "attune db install")
	equal(t, "cursor", a.header.Get("Attune-Cursor"), "")
}

// gated answers when it is let, with how often it was asked.
type gated struct {
	attunehttp.EntityLister // is not asked

	n   int
	let chan struct{}
}

func (g *gated) Get(_ context.Context, entityType, _ string) (wire.Entity, error) {
	g.n++ // no two queries run at once
	n := g.n
	<-g.let
	return wire.Entity{EntityType: entityType, EntityID: wire.IntID(1), Payload: json.RawMessage(strconv.Itoa(n))}, nil
}

// GetMany implements attunehttp.Entities.
func (*gated) GetMany(context.Context, string, []string) (map[string]wire.Entity, error) {
	panic("nothing is read in rounds while notifications arrive")
}

// Those who ask while a query runs share the next one, which begins after they asked:
// nobody gets a row from before. When many ask, what is known will do.
func TestEntity_SharedReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gated{let: make(chan struct{})}
		hub := broadcast.New(broadcast.Options{QueueSize: 1, WindowSize: 1})
		hub.SetMode(wire.ModeLive)
		routes := attunehttp.New(attunehttp.Config{
			Hub: hub, Entities: g, Page: web.Files(), Logger: slog.New(slog.DiscardHandler),
			Source: func() attunehttp.SourceStats { return attunehttp.SourceStats{} },
		}).Handler(t.Context())
		var gets sync.WaitGroup
		get := func(want string) {
			<-time.After(time.Millisecond) // by the bubble's clock: nobody asks at the same instant
			gets.Go(func() {
				w := httptest.NewRecorder()
				routes.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/entities/orders/1", nil))
				if !strings.Contains(w.Body.String(), `"payload":`+want+`}`) {
					t.Errorf("got %s, want the row of query %s", w.Body, want)
				}
			})
			synctest.Wait()
		}
		get("1")
		for range 10 { // not so many that what is known would do
			get("2")
		}
		<-time.After(time.Millisecond)
		g.let <- struct{}{}
		synctest.Wait()
		get("3")
		<-time.After(time.Millisecond)
		close(g.let)
		gets.Wait()
		if g.n != 3 {
			t.Errorf("%d queries for three groups of clients", g.n)
		}
	})
}
