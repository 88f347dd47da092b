package main_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"attune/attunetest"
	"attune/pg/pgtest"
	"attune/wire"
)

// serveShop serves a database with tables that this project has never seen: orders
// have an integer key, parcels a UUID.
func serveShop(t *testing.T) (s *server, url string) {
	t.Helper()
	url = pgtest.Database(t)
	db := pgtest.Connect(t, url)
	execSQL(t, db, `
		CREATE TYPE mood AS ENUM ('calm', 'in a hurry');
		CREATE TABLE orders (id bigserial PRIMARY KEY, status text NOT NULL, total numeric(10,2), customer_id bigint, paid boolean, note text);
		CREATE TABLE parcels (code uuid PRIMARY KEY, mood mood, weight int);
		CREATE TABLE secrets (id int PRIMARY KEY, status text);
		INSERT INTO orders (status, total, customer_id) SELECT 'new', 10.5, 7 FROM generate_series(1, 50);
		INSERT INTO parcels VALUES ('`+parcel+`', 'calm', 3);
		INSERT INTO secrets VALUES (1, 'hidden')`)
	for _, args := range [][]string{
		{"db", "install"},
		{"db", "watch", "public.orders", "--columns", "status,total,paid", "--user-id", "customer_id"},
		{"db", "watch", "parcels"},
	} {
		if code, _, stderr := run(t, []string{"DATABASE_URL=" + url}, args...); code != 0 {
			t.Fatalf("%v: exit code %d:\n%s", args, code, stderr)
		}
	}
	return serve(t, "DATABASE_URL="+url), url
}

const parcel = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

// What a person sees who waits for a row.
func TestWaitForRow(t *testing.T) {
	t.Parallel()
	s, url := serveShop(t)
	for name, tt := range map[string]struct {
		args    []string
		changes string
		said    []string // after the subscription
		printed string
	}{
		"IntegerKey": {
			[]string{"orders:42", "--until", "status=shipped|cancelled"},
			`BEGIN; UPDATE orders SET status = 'paid' WHERE id = 42; COMMIT; BEGIN; UPDATE orders SET status = 'shipped' WHERE id = 42; COMMIT`,
			[]string{
				"[notifier] orders_changed for orders 42 — status=paid", "[notifier] orders_changed for orders 42 — status=shipped",
				"✓ orders 42 has status=shipped",
			},
			`{"op":"changed","id":42,"status":"shipped","total":10.50,"paid":null}`,
		},
		"UUIDKey": {
			[]string{"parcels:" + parcel, "--until", "mood=in a hurry", "--until", "weight=4"},
			`BEGIN; UPDATE parcels SET mood = 'in a hurry'; COMMIT; BEGIN; UPDATE parcels SET weight = 4; COMMIT`,
			[]string{
				"[notifier] parcels_changed for parcels " + parcel + " — mood=in a hurry weight=3",
				"[notifier] parcels_changed for parcels " + parcel + " — mood=in a hurry weight=4",
				"✓ parcels " + parcel + " has mood=in a hurry weight=4",
			},
			`{"op":"changed","code":"` + parcel + `","mood":"in a hurry","weight":4}`,
		},
		"Created": {
			[]string{"orders:77", "--until", "created"},
			`INSERT INTO orders (id, status) VALUES (77, 'new')`,
			[]string{"[notifier] orders_created for orders 77", "✓ orders 77 exists"},
			`{"op":"created","id":77,"status":"new","total":null,"paid":null}`,
		},
		"CreatedAndPaid": {
			[]string{"orders:78", "--until", "created", "--until", "paid=true"},
			`BEGIN; INSERT INTO orders (id, status) VALUES (78, 'new'); COMMIT; UPDATE orders SET paid = true WHERE id = 78`,
			[]string{
				"[notifier] orders_created for orders 78 — paid=null", "[notifier] orders_changed for orders 78 — paid=true", "✓ orders 78 has paid=true",
			},
			`{"op":"changed","id":78,"status":"new","total":null,"paid":true}`,
		},
		"Deleted": {
			[]string{"orders:41", "--until", "deleted"},
			`DELETE FROM orders WHERE id = 41`,
			[]string{"[notifier] orders_deleted for orders 41", "✓ orders 41 does not exist"},
			`null`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := s.start(t, append([]string{"wait"}, tt.args...)...)
			p.says(p.stderr, "subscribed to")
			execSQL(t, pgtest.Connect(t, url), tt.changes)
			code := p.wait()
			_, said, _ := strings.Cut(p.stderr.String(), "[notifier] subscribed to entity:"+tt.args[0]+"\n")
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			if strings.Contains(said, "[poll]") || !strings.Contains(said, "[notifier]") { // the first look was later than all changes, and faster than their news
				tt.said = tt.said[len(tt.said)-1:]
				said = said[max(strings.Index(said, "✓"), 0):]
			}
			equal(t, "stderr", said, strings.Join(tt.said, "\n")+"\n")
			if got := p.stdout.String(); got != tt.printed+"\n" && got != strings.Replace(tt.printed, `"op":"changed",`, "", 1)+"\n" &&
				got != strings.Replace(tt.printed, `"op":"created",`, "", 1)+"\n" {
				t.Errorf("stdout %q, want %s", got, tt.printed)
			}
		})
	}
}

// Every way in which a wait for a row can end has its exit code.
func TestWaitForRow_ExitCode(t *testing.T) {
	t.Parallel()
	s, url := serveShop(t)
	for name, tt := range map[string]struct {
		args   []string
		code   int
		stdout string
		says   string // on stderr
	}{
		"There":         {[]string{"orders:1", "--until", "status=new"}, 0, `{"id":1,"status":"new","total":10.50,"paid":null}` + "\n", "has status=new"},
		"Number":        {[]string{"orders:1", "--until", "total=9|10.50"}, 0, `{"id":1,"status":"new","total":10.50,"paid":null}` + "\n", "has total=10.50"},
		"Null":          {[]string{"orders:1", "--until", "paid=null"}, 0, `{"id":1,"status":"new","total":10.50,"paid":null}` + "\n", "has paid=null"},
		"Enum":          {[]string{"parcels:" + parcel, "--until", "mood=calm"}, 0, `{"code":"` + parcel + `","mood":"calm","weight":3}` + "\n", "has mood=calm"},
		"NeverWas":      {[]string{"orders:999", "--until", "deleted"}, 0, "null\n", "does not exist"},
		"Exists":        {[]string{"orders:1", "--until", "created", "--timeout", "0"}, 0, `{"id":1,"status":"new","total":10.50,"paid":null}` + "\n", "exists"},
		"Quiet":         {[]string{"orders:1", "--until", "status=new", "-q"}, 0, `{"id":1,"status":"new","total":10.50,"paid":null}` + "\n", ""},
		"JSON":          {[]string{"orders:1", "--until", "status=new", "--json"}, 0, `{"entity_type":"orders","entity_id":1,"user_id":7,"payload":{"id":1,"status":"new","total":10.50,"paid":null}}` + "\n", ""},
		"NotYet":        {[]string{"orders:1", "--until", "status=it's|done", "--timeout", "1"}, 3, "", "attune wait orders:1 --until 'status=it'\\''s|done'"},
		"NotYetJSON":    {[]string{"orders:1", "--until", "total=10.5", "--timeout", "0", "--json"}, 3, `{"entity_type":"orders","entity_id":1,"user_id":7,"payload":{"id":1,"status":"new","total":10.50,"paid":null}}` + "\n", "it has total=10.50"},
		"NotYetCreated": {[]string{"orders:998", "--until", "created", "--timeout", "1"}, 3, "", "does not exist"},
		"NoRow":         {[]string{"orders:999", "--until", "status=shipped"}, 1, "", "--until created"},
		"NoSuchKey":     {[]string{"orders:abc", "--until", "status=shipped"}, 1, "", "orders abc was not found"},
		"NotWatched":    {[]string{"secrets:1", "--until", "deleted"}, 1, "", `"secrets" is not watched`},
		"NoColumn":      {[]string{"orders:1", "--until", "stauts=shipped"}, 2, "", `no column "stauts" that is watched: it has id, paid, status, total`},
		"NotItsColumn":  {[]string{"orders:1", "--until", "note=x"}, 2, "", "it has id, paid, status, total"},
		"NoCondition":   {[]string{"orders:1"}, 2, "", "column=value1|value2, created or deleted"},
		"BadCondition":  {[]string{"orders:1", "--until", "shipped"}, 2, "", "column=value1|value2, created or deleted"},
		"TwoValues":     {[]string{"orders:1", "--until", "status=a", "--until", "status=b"}, 2, "", "status=value1|value2"},
		"DeletedAnd":    {[]string{"orders:1", "--until", "status=a", "--until", "deleted"}, 2, "", "--until deleted"},
		"BadRow":        {[]string{"orders/1", "--until", "status=a"}, 2, "", "TYPE:ID such as orders:42"},
		"TwoRows":       {[]string{"orders:1", "orders:2", "--until", "status=a"}, 2, "", "want one row"},
		"NoServer":      {[]string{"orders:1", "--until", "status=a", "--timeout", "0", "--url", "http://127.0.0.1:1"}, 1, "", "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := s.attune(t, append([]string{"wait"}, tt.args...)...)
			if code != tt.code || !strings.Contains(stderr, tt.says) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", code, tt.code, tt.says, stderr)
			}
			equal(t, "stdout", stdout, tt.stdout)
		})
	}

	t.Run("Deleted", func(t *testing.T) {
		t.Parallel()
		p := s.start(t, "wait", "orders:40", "--until", "status=shipped", "--json")
		p.says(p.stderr, "subscribed to")
		db := pgtest.Connect(t, url)
		execSQL(t, db, `UPDATE orders SET status = 'paid' WHERE id = 40`)
		p.says(p.stderr, "status=paid")
		execSQL(t, db, `DELETE FROM orders WHERE id = 40`)
		if code := p.wait(); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		refused := decode[problem](t, p.stdout.String())
		if refused.Error.Code != wire.CodeNotFound || !strings.Contains(refused.Error.Message, "orders 40 was deleted") {
			t.Errorf("%+v", refused)
		}
	})
}

// Ctrl-C ends the wait, and what is printed, given to a shell, takes it up again.
func TestWaitForRow_Interrupted(t *testing.T) {
	t.Parallel()
	s, url := serveShop(t)
	p := start(t, nil, "wait", "orders:1", "--until", "status=shipped|in doubt", "--url", s.url)
	p.says(p.stderr, "subscribed to")
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	found := regexp.MustCompile(`(?m)attune (wait .*)$`).FindStringSubmatch(p.stderr.String())
	if found == nil {
		t.Fatalf("no command in:\n%s", p.stderr)
	}
	execSQL(t, pgtest.Connect(t, url), `UPDATE orders SET status = 'in doubt' WHERE id = 1`)
	sh := exec.CommandContext(t.Context(), "sh", "-c", "./"+filepath.Base(attunetest.Binary(t))+" "+found[1])
	sh.Dir, sh.Env = filepath.Dir(attunetest.Binary(t)), []string{"HOME=" + t.TempDir()}
	out, err := sh.Output()
	if err != nil || !strings.Contains(string(out), `"status":"in doubt"`) {
		t.Errorf("%s: %v, %s", found[0], err, out)
	}
}

// A server without a log knows no tables, and says what would make it know them.
func TestEntities_NoLog(t *testing.T) {
	t.Parallel()
	s := serve(t, "DATABASE_URL="+pgtest.Database(t))
	status, body := s.get(t, "/entities/orders/1")
	if status != http.StatusNotFound || !strings.Contains(body, "attune db install") {
		t.Errorf("%d %s", status, body)
	}
	if code, _, stderr := s.attune(t, "wait", "orders:1", "--until", "deleted", "--timeout", "2"); code != 1 || !strings.Contains(stderr, "attune db install") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

// Executions of our own are rows as well, since they are in the log.
func TestWaitForRow_Execution(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	status, body := s.get(t, "/stats")
	if status != http.StatusOK || !strings.Contains(body, `"source":"log"`) {
		t.Fatalf("%d %s: want the source log", status, body)
	}
	id := s.execute(t, "core.sleep", "seconds=0.3")
	code, stdout, stderr := s.attune(t, "wait", "execution:"+id, "--until", "status=completed|failed", "--timeout", "30")
	if code != 0 || !strings.Contains(stdout, `"status":"completed"`) {
		t.Errorf("exit code %d, stdout %s, stderr:\n%s", code, stdout, stderr)
	}
}
