package live_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// TestLog_CommitOrder has many writers commit in another order than they wrote in.
// Whoever polls the log must never find a row behind one that was seen before, and
// announcements must come in the order of seq.
func TestLog_CommitOrder(t *testing.T) {
	const writers, transactions = 16, 60
	pool := installed(t)
	exec(t, pool, `CREATE TABLE noise (id int)`)
	l := listen(t, pool)

	polled := make(chan []int64, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var reader errgroup.Group
	reader.Go(func() error {
		seen, err := poll(ctx, pool)
		polled <- seen
		return err
	})

	var group errgroup.Group
	for w := range writers {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range transactions {
				if err := write(t.Context(), pool, rng, fmt.Sprintf("%d.%d", w, i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := reader.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := <-polled

	all := queryOne[[]int64](t, pool, `SELECT array_agg(seq ORDER BY seq) FROM attune_live.notification_log`)
	if !slices.Equal(all, seen) {
		t.Errorf("polling saw %d rows of %d: some appeared behind others", len(seen), len(all))
	}
	announced := make([]int64, 0, len(all))
	for range all {
		announced = append(announced, l.next().Seq)
	}
	if diff := cmp.Diff(all, announced); diff != "" {
		t.Errorf("-log +announced:\n%s", diff)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.notification_log WHERE entity_id LIKE '%undone%'`); n != 0 {
		t.Errorf("%d notifications of what was rolled back", n)
	}
	if n := queryOne[int64](t, pool, `SELECT last_value FROM attune_live.losses`); n != 0 {
		t.Errorf("%d losses", n)
	}
	t.Logf("%d rows, %d of %d numbers used", len(all), len(all), all[len(all)-1])
}

// poll reads what is above the last seq seen until ctx ends, and once more.
func poll(ctx context.Context, pool *pgxpool.Pool) ([]int64, error) {
	seen := []int64{0}
	for ended := false; ; {
		rows, err := pool.Query(context.WithoutCancel(ctx),
			`SELECT seq FROM attune_live.notification_log WHERE seq > $1 ORDER BY seq`, seen[len(seen)-1])
		if err != nil {
			return nil, err
		}
		news, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return nil, err
		}
		seen = append(seen, news...)
		if ended {
			return seen[1:], nil
		}
		ended = ctx.Err() != nil
	}
}

// write runs one transaction: up to three notifications with delays in between, some
// of them undone by a savepoint; one transaction in five is rolled back.
func write(ctx context.Context, pool *pgxpool.Pool, rng *rand.Rand, id string) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	notify := func(id string) string {
		return `SELECT attune_live.notify('orders_changed', 'orders', '` + id + `', '{}')`
	}
	rollback := rng.IntN(5) == 0
	if rollback {
		id += ".undone"
	}
	for range 1 + rng.IntN(3) {
		statements := []string{notify(id), `INSERT INTO noise VALUES (1)`, fmt.Sprintf(`SELECT pg_sleep(%g)`, rng.Float64()/200)}
		switch rng.IntN(4) {
		case 0:
			statements = slices.Concat([]string{`SAVEPOINT s`, notify(id + ".undone")}, statements[1:], []string{`ROLLBACK TO s`})
		case 1:
			statements = slices.Concat([]string{`SAVEPOINT s`}, statements, []string{`RELEASE s`})
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
	}
	if rollback {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}
