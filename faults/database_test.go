package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/faults"
	"attune/pg/live"
)

const (
	// channel is where everything is notified.
	channel = "orders_changed"
	// entities are the orders 0 to entities-1; users likewise.
	entities, users = 8, 3

	sourceListen = "listen"
	sourceLog    = "log"
)

// schema is the oracle. A transaction that notifies also writes down what, in
// faults.commits. For the source listen the order of commits is established there: a
// deferred trigger numbers rows under a lock that is held to the end of the commit, as
// NOTIFY's own is, which it takes first. For the source log the log itself is read.
const schema = `
	CREATE SCHEMA faults;
	CREATE SEQUENCE faults.places;
	CREATE TABLE faults.commits (
		id bigint PRIMARY KEY, place bigint, tx bigint NOT NULL DEFAULT txid_current(), n bigint NOT NULL,
		entity_type text NOT NULL, entity_id text NOT NULL, user_id bigint, payload text NOT NULL);`

const schemaListen = schema + `
	CREATE FUNCTION faults.number() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(4711);
		UPDATE faults.commits SET place = nextval('faults.places') WHERE id = NEW.id;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER number AFTER INSERT ON faults.commits
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION faults.number();
	CREATE FUNCTION faults.write(id bigint, n bigint, entity_type text, entity_id text, user_id bigint, pad text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		body text := json_build_object('entity_type', entity_type, 'entity_id', entity_id, 'user_id', user_id, 'n', n, 'pad', pad)::text;
	BEGIN
		INSERT INTO faults.commits VALUES (id, NULL, DEFAULT, n, entity_type, entity_id, user_id, body);
		PERFORM pg_notify('` + channel + `', body);
	END $$;`

const schemaLog = schema + `
	CREATE FUNCTION faults.write(id bigint, n bigint, entity_type text, entity_id text, user_id bigint, pad text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		body jsonb := jsonb_build_object('n', n, 'pad', pad);
	BEGIN
		INSERT INTO faults.commits VALUES (id, NULL, DEFAULT, n, entity_type, entity_id, user_id, body::text);
		PERFORM attune_live.notify('` + channel + `', entity_type, entity_id, body, user_id);
	END $$;` + schemaPruned

// schemaPruned keeps for the oracle what is deleted from the log.
const schemaPruned = `
	CREATE TABLE faults.pruned (LIKE attune_live.notification_log);
	CREATE FUNCTION faults.keep() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO faults.pruned SELECT OLD.*;
		RETURN NULL;
	END $$;
	CREATE TRIGGER keep AFTER DELETE ON attune_live.notification_log FOR EACH ROW EXECUTE FUNCTION faults.keep();`

// write calls faults.write.
const write = `SELECT faults.write($1, $2, $3, $4, $5, $6)`

// database is a database with the oracle, and those who write to it.
type database struct {
	t      *testing.T
	source string
	url    string // direct: nothing ever stands in between

	ids atomic.Int64
	mu  sync.Mutex
	// lost was committed after the first kept ones, and is there no more.
	lost []faults.Commit
	kept int
	// asked is when a notification, by its n, was asked to be committed at the earliest.
	asked map[int64]time.Time
}

// newDatabase prepares the database at url for a source.
func newDatabase(t *testing.T, source, url string) *database {
	t.Helper()
	db := &database{t: t, source: source, url: url, asked: make(map[int64]time.Time)}
	statements := schemaListen
	if source == sourceLog {
		statements = schemaLog
		pool, err := pgxpool.New(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if err := live.Install(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
	db.exec(statements)
	return db
}

// connect connects until t ends.
func (db *database) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(db.url)
	if err != nil {
		return nil, err
	}
	// What is acknowledged must outlive a kill, whatever the server's own setting.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	cfg.ConnectTimeout = 10 * time.Second // a server that has just been promoted is slow on a loaded machine
	return pgx.ConnectConfig(ctx, cfg)
}

// exec runs statements on a connection of their own.
func (db *database) exec(sql string, args ...any) {
	db.t.Helper()
	conn, err := db.connect(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	defer conn.Close(db.t.Context())
	if _, err := conn.Exec(db.t.Context(), sql, args...); err != nil {
		db.t.Fatalf("%.80s: %v", sql, err)
	}
}

// value reads one value.
func value[T any](db *database, sql string, args ...any) T {
	db.t.Helper()
	conn, err := db.connect(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	defer conn.Close(db.t.Context())
	var v T
	if err := conn.QueryRow(db.t.Context(), sql, args...).Scan(&v); err != nil {
		db.t.Fatalf("%.80s: %v", sql, err)
	}
	return v
}

// order is what is written of an order.
type order struct {
	n                    int64
	entityType, entityID string
	user                 *int64
	size                 int // of the padding
}

// next returns a notification with a number of its own.
func (db *database) next(size int) order {
	n := db.ids.Add(1)
	o := order{n: n, entityType: "orders", entityID: fmt.Sprint(n % entities), size: size}
	if n%4 != 0 {
		user := n % users
		o.user = &user
	}
	return o
}

// ask notes that o is about to be written. What is written twice keeps the first time.
func (db *database) ask(o order) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if _, ok := db.asked[o.n]; !ok {
		db.asked[o.n] = time.Now()
	}
}

// put writes an order in the transaction of e, which may be a connection.
func (db *database) put(ctx context.Context, tx interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, o order,
) error {
	db.ask(o)
	var void any
	return tx.QueryRow(ctx, write, db.ids.Add(1), o.n, o.entityType, o.entityID, o.user, strings.Repeat("x", o.size)).Scan(&void)
}

// commit writes orders of a size, each in a transaction of its own.
func (db *database) commit(count, size int) {
	db.t.Helper()
	const sessions = 4
	group, ctx := errgroup.WithContext(db.t.Context())
	for i := range sessions {
		group.Go(func() error {
			conn, err := db.connect(ctx)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			for range (count + i) / sessions {
				if err := db.put(ctx, conn, db.next(size)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		db.t.Fatal(err)
	}
}

// writeMany calls faults.write for a range of numbers.
const writeMany = `SELECT faults.write(n, n, 'orders', (n % $3)::text, NULL, repeat('x', $4)) FROM generate_series($1::bigint, $2::bigint) n`

// bulk writes orders of a size, all in one transaction.
func (db *database) bulk(count, size int) {
	db.t.Helper()
	first, last := db.nextMany(count)
	db.exec(writeMany, first, last, entities, size)
}

// nextMany returns the first and the last number of orders that are about to be written.
func (db *database) nextMany(count int) (first, last int64) {
	last = db.ids.Add(int64(count))
	first = last - int64(count) + 1
	for n := first; n <= last; n++ {
		db.ask(order{n: n})
	}
	return first, last
}

// bursts writes that many small orders in one transaction, and again every so often,
// until the function returned is called.
func (db *database) bursts(count int, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(db.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := db.connect(ctx)
		if err != nil {
			db.t.Error(err)
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		repeat(ctx, every, func() (more bool) {
			first, last := db.nextMany(count)
			_, err := conn.Exec(context.WithoutCancel(ctx), writeMany, first, last, entities, 20)
			if err != nil {
				db.t.Error(err)
			}
			return err == nil
		})
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// fence writes the last notification, which every client is subscribed to, and
// returns what it says.
func (db *database) fence() faults.Body {
	db.t.Helper()
	o := db.next(0)
	o.entityType = "fence"
	o.user = nil
	conn, err := db.connect(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	defer conn.Close(db.t.Context())
	if err := db.put(db.t.Context(), conn, o); err != nil {
		db.t.Fatal(err)
	}
	return db.read(`SELECT tx, n, entity_type, entity_id, user_id, payload FROM faults.commits WHERE n = $1`, o.n)[0].commit.Body
}

// load has several sessions make transactions, in all so many a second if the machine is
// fast enough, until the function returned is called.
// Sessions commit in another order than they began in, roll back, hold transactions
// open and say the same twice; a session that is lost is made anew.
func (db *database) load(sessions, perSecond int) (stop func()) {
	ctx, cancel := context.WithCancel(db.t.Context())
	var wg sync.WaitGroup
	for i := range sessions {
		rng := rand.New(rand.NewPCG(*seed, uint64(db.ids.Load())<<8|uint64(i)))
		wg.Go(func() { db.session(ctx, rng, time.Second*time.Duration(sessions)/time.Duration(perSecond)) })
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func (db *database) session(ctx context.Context, rng *rand.Rand, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = db.connect(ctx); err != nil {
				conn = nil
				continue
			}
		}
		// What was begun is finished, or its outcome would have to be asked for. An error
		// is a fault's: what was committed stands in the database.
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if db.transaction(work, conn, rng) != nil {
			_ = conn.Close(work)
			conn = nil
		}
		cancel()
	}
}

// transaction writes one to three notifications in one of many ways.
func (db *database) transaction(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	size := rng.IntN(200)
	if rng.IntN(20) == 0 {
		size = rng.IntN(7000)
	}
	if db.source == sourceLog && rng.IntN(50) == 0 {
		size = 9000 + rng.IntN(100_000)
	}
	if rng.IntN(2) == 0 {
		return db.put(ctx, conn, db.next(size))
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for range 1 + rng.IntN(3) {
		o := db.next(size)
		if err := db.put(ctx, tx, o); err != nil {
			return err
		}
		switch rng.IntN(4) {
		case 0: // the same again
			err = db.put(ctx, tx, o)
		case 1: // held, so that others commit first
			_, err = tx.Exec(ctx, fmt.Sprintf(`SELECT pg_sleep(%g)`, rng.Float64()/50))
		case 2: // taken back
			var savepoint pgx.Tx
			if savepoint, err = tx.Begin(ctx); err == nil {
				if err = db.put(ctx, savepoint, db.next(size)); err == nil {
					err = savepoint.Rollback(ctx)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	if rng.IntN(5) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// commits reads what was committed, in commit order, and for the log what is wrong
// with it.
func (db *database) commits() ([]faults.Commit, []faults.Violation) {
	db.t.Helper()
	written := db.read(`SELECT tx, n, entity_type, entity_id, user_id, payload FROM faults.commits ORDER BY place, id`)
	if db.source == sourceListen {
		return slices.Insert(folded(written), db.kept, db.lost...), nil
	}
	logged := db.read(`SELECT 0, (payload->>'n')::bigint, entity_type, entity_id, user_id, payload::text
		FROM (SELECT * FROM attune_live.notification_log UNION ALL SELECT * FROM faults.pruned) l ORDER BY seq`)
	var bodies []faults.Body
	for _, w := range written {
		bodies = append(bodies, w.commit.Body)
	}
	var commits []faults.Commit
	for _, l := range logged {
		commits = append(commits, l.commit)
	}
	found := faults.CompareLog(bodies, commits)
	return slices.Insert(commits, db.kept, db.lost...), found
}

// row is a notification as the oracle has it.
type row struct {
	tx     int64
	commit faults.Commit
}

// folded returns rows as PostgreSQL notifies them: of those that are equal, one for
// each transaction.
func folded(rows []row) []faults.Commit {
	type key struct {
		tx   int64
		body faults.Body
	}
	seen := make(map[key]bool, len(rows))
	var commits []faults.Commit
	for _, r := range rows {
		if k := (key{r.tx, r.commit.Body}); !seen[k] {
			seen[k] = true
			commits = append(commits, r.commit)
		}
	}
	return commits
}

func (db *database) read(sql string, args ...any) []row {
	db.t.Helper()
	conn, err := db.connect(db.t.Context())
	if err != nil {
		db.t.Fatal(err)
	}
	defer conn.Close(db.t.Context())
	result, err := conn.Query(db.t.Context(), sql, args...)
	if err != nil {
		db.t.Fatal(err)
	}
	rows, err := pgx.CollectRows(result, func(r pgx.CollectableRow) (row, error) {
		var tx, n int64
		var entityType, entityID, payload string
		var userID *int64
		if err := r.Scan(&tx, &n, &entityType, &entityID, &userID, &payload); err != nil {
			return row{}, err
		}
		user := ""
		if userID != nil {
			user = fmt.Sprint(*userID)
		}
		body, err := faults.NewBody(channel, entityType, entityID, user, json.RawMessage(payload))
		db.mu.Lock()
		defer db.mu.Unlock()
		return row{tx, faults.Commit{Body: body, Asked: db.asked[n]}}, err
	})
	if err != nil {
		db.t.Fatal(err)
	}
	return rows
}
