package http_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	attunehttp "attune/http"
	"attune/pg"
	"attune/pg/live"
	"attune/wire"
)

// TestReadings: an answer is never older than a notification that was received before
// it was asked for, however many others ask for the same, and whoever says no-cache
// reads what was written.
func TestReadings(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = k.try(http.MethodGet, path(id), "")
				}
			}
		}()
	}
	stream := k.opened("?filter=entity:execution:" + strconv.FormatInt(id, 10))
	for i := range 100 {
		want := []wire.Status{wire.StatusCanceling, wire.StatusRunning}[i%2]
		k.update(id, want)
		if i%4 < 2 {
			if got := k.get(path(id), "Cache-Control", "no-cache").want(200).object()["status"]; got != string(want) {
				t.Errorf("no-cache: read %v after %s was written", got, want)
			}
		}
		stream.block()
		if got := k.get(path(id)).want(200).object()["status"]; got != string(want) {
			t.Errorf("read %v after %s was told", got, want)
		}
	}
	close(stop)
	for range 4 {
		<-done
	}
}

// What the hub does not hear of is seen all the same, a moment later.
func TestReadings_WithoutNotification(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	k.get(path(id)).want(200)
	k.failSilently(id)
	eventually(t, "the change", func() bool { return strings.Contains(k.get(path(id)).want(200).body, `"failed"`) })
}

// Those who ask for a row that does not change cost the database next to nothing.
func TestReadings_Shared(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	before := k.reads.n.Load()
	const asked = 2000
	first := k.get(path(id)).want(200)
	for range asked {
		a := k.get(path(id)).want(200)
		equal(t, "body", a.body, first.body)
		equal(t, "ETag", a.header.Get("ETag"), first.header.Get("ETag"))
	}
	reads := k.reads.n.Load() - before
	t.Logf("%d answers, %d reads", asked, reads)
	if reads > asked/10 {
		t.Errorf("%d answers cost %d reads", asked, reads)
	}
}

// TestReadings_Degraded: while notifications do not arrive all who ask, each for a row of
// its own, again and again, cost the database what one costs, and see what becomes of it.
func TestReadings_Degraded(t *testing.T) {
	t.Parallel()
	const waiters, asks = 40, 5
	k := startStack(t, false)
	ids := make([]int64, waiters)
	for i := range ids {
		ids[i] = k.insert(wire.StatusRunning)
	}
	k.hub.SetMode(wire.ModeDegraded)
	before, begun := k.reads.n.Load(), time.Now()
	looks := make(chan answer, waiters)
	for _, id := range ids {
		go func() {
			var a answer
			for range asks {
				a, _ = k.try(http.MethodGet, path(id), "")
			}
			looks <- a
		}()
	}
	for range waiters {
		(<-looks).want(200)
	}
	reads, took := k.reads.n.Load()-before, time.Since(begun)
	t.Logf("%d answers in %s, %d reads", waiters*asks, took, reads)
	if most := int64(took/(500*time.Millisecond)) + 1; reads > most {
		t.Errorf("%d reads in %s, want at most %d", reads, took, most)
	}

	k.failSilently(ids[0])
	equal(t, "status", k.get(path(ids[0])).want(200).object()["status"], any("failed"))
	k.get("/executions/999999").problem(404, "not_found", "999999")
	k.exec(`ALTER TABLE attune.execution RENAME TO gone`)
	k.get(path(ids[0])).problem(500, "internal", "log")
	k.exec(`ALTER TABLE attune.gone RENAME TO execution`)
	k.get(path(ids[0])).want(200)
}

// countedEntities counts how often rows are read.
type countedEntities struct {
	attunehttp.Entities
	reads atomic.Int64
}

// Get implements attunehttp.Entities.
func (c *countedEntities) Get(ctx context.Context, entityType, id string) (wire.Entity, error) {
	c.reads.Add(1)
	return c.Entities.Get(ctx, entityType, id)
}

// GetMany implements attunehttp.Entities.
func (c *countedEntities) GetMany(ctx context.Context, entityType string, ids []string) (map[string]wire.Entity, error) {
	c.reads.Add(1)
	return c.Entities.GetMany(ctx, entityType, ids)
}

// All who wait for rows of a watched table, one or many, also such as are not there, share
// what they read.
func TestReadings_DegradedEntity(t *testing.T) {
	t.Parallel()
	const waiters, asks = 40, 5
	pool := watchedTables(t, `CREATE TABLE orders (id int PRIMARY KEY, status text); INSERT INTO orders VALUES (42, 'paid');
		INSERT INTO orders SELECT i, 'of ' || i FROM generate_series(1000, 1019) i`,
		map[string]live.WatchOptions{"orders": {}})
	counted := &countedEntities{Entities: pg.NewEntities(pool)}
	s := start(t, func(cfg *setup) { cfg.Entities = counted })
	s.hub.SetMode(wire.ModeDegraded)
	ask := func(id func(waiter int) string) []answer {
		t.Helper()
		before, begun := counted.reads.Load(), time.Now()
		looks := make([]answer, waiters)
		var wg sync.WaitGroup
		for i := range looks {
			wg.Go(func() {
				for range asks {
					looks[i], _ = s.try(http.MethodGet, "/entities/orders/"+id(i), "")
				}
			})
		}
		wg.Wait()
		reads, took := counted.reads.Load()-before, time.Since(begun)
		t.Logf("%d answers in %s, %d reads", waiters*asks, took, reads)
		if most := int64(took/(500*time.Millisecond)) + 1; reads > most {
			t.Errorf("%d reads in %s, want at most %d", reads, took, most)
		}
		return looks
	}
	for _, a := range ask(func(int) string { return "42" }) {
		a.want(200)
	}
	ids := func(i int) string {
		if i < waiters-1 {
			return strconv.Itoa(1000 + i)
		}
		return "no-number"
	}
	for i, a := range ask(ids) {
		if i >= 20 {
			a.problem(404, "not_found", "orders "+ids(i)+" was not found")
		} else if of := `"of ` + ids(i) + `"`; !strings.Contains(a.want(200).body, of) {
			t.Errorf("read %s, want %s", a.body, of)
		}
	}
	if _, err := pool.Exec(t.Context(), `UPDATE orders SET status = 'shipped'`); err != nil {
		t.Fatal(err)
	}
	if a := s.get("/entities/orders/42", "Cache-Control", "no-cache").want(200); !strings.Contains(a.body, `"shipped"`) {
		t.Errorf("read %s after shipped was written", a.body)
	}
}

// An execution and an entity of a table that is watched as one are two rows.
func TestReadings_Named(t *testing.T) {
	t.Parallel()
	k := startStack(t, false, func(cfg *setup) { cfg.Entities = likeExecutions{} })
	id := k.insert(wire.StatusRunning)
	for range 40 { // often enough for an answer that is known
		equal(t, "execution", k.get(path(id)).want(200).object()["status"], any("running"))
		equal(t, "entity", k.get(fmt.Sprintf("/entities/execution/%d", id)).want(200).object()["payload"], any(map[string]any{}))
	}
}

// likeExecutions is a table that is watched as execution.
type likeExecutions struct{ attunehttp.EntityLister }

// GetMany implements attunehttp.Entities.
func (e likeExecutions) GetMany(ctx context.Context, entityType string, ids []string) (map[string]wire.Entity, error) {
	found := make(map[string]wire.Entity, len(ids))
	for _, id := range ids {
		var err error
		if found[id], err = e.Get(ctx, entityType, id); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Get implements attunehttp.Entities.
func (likeExecutions) Get(_ context.Context, entityType, id string) (wire.Entity, error) {
	key, err := wire.TextID(id)
	return wire.Entity{EntityType: entityType, EntityID: key, Payload: []byte(`{}`)}, err
}

// Cancelling is seen by whoever asks afterwards, whatever was known before.
func TestReadings_Cancel(t *testing.T) {
	t.Parallel()
	k := startStack(t, true)
	for range 20 {
		id := k.do(http.MethodPost, "/executions", `{"action_ref":"core.sleep","parameters":{"seconds":600}}`).want(201).header.Get("Location")
		k.get(id).want(200)
		cancelled := k.do(http.MethodPost, id+"/cancel", "").want(202).object()["status"]
		if got := k.get(id).want(200).object()["status"]; got != cancelled && got != "cancelled" {
			t.Errorf("read %v after %v", got, cancelled)
		}
	}
}
