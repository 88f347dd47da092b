package main_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

// The start page in a real browser.
func TestPage(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)

	// From an empty database on, without a reload.
	t.Run("Executions", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		s, db := serveWithRunner(t, url), connect(t, url)
		p := browser.open(t, s, nil)
		p.waits("it is live and empty", `text('#badge') === 'live' && shown('#empty') && !shown('#table') && !shown('#notice')`)
		p.fits()

		command := eval[string](p, `text('#empty code')`)
		sh := exec.CommandContext(t.Context(), "sh", "-c", command)
		sh.Env = []string{"PATH=" + filepath.Dir(binary(t)) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ATTUNE_URL=" + s.url, "GORACE=" + os.Getenv("GORACE")}
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		want := []row{{"1", "core.echo", "completed"}}
		p.table(want)
		p.waits("it is not empty any more", `!shown('#empty') && shown('#table')`)

		for _, parameters := range []string{`{"seconds":600}`, `{"seconds":0}`} {
			resp := s.do(t, http.MethodPost, "/executions", `{"action_ref":"core.sleep","parameters":`+parameters+`}`)
			equal(t, "status of a POST", resp.StatusCode, http.StatusCreated)
			_ = resp.Body.Close()
		}
		want = append([]row{{"3", "core.sleep", "completed"}, {"2", "core.sleep", "running"}}, want...)
		p.table(want)
		resp := s.do(t, http.MethodPost, "/executions/2/cancel", "")
		_ = resp.Body.Close()
		want[1].Status = "cancelled"
		p.table(want)

		// Ids are exact, what is markup stays text, and what is long is wrapped.
		long := strings.Repeat("x", 200)
		execSQL(t, db, `INSERT INTO attune.execution (id, action_ref, status) VALUES
			(9007199254740993, '<b onclick="alert(1)">bold</b>', 'abandoned'), (9223372036854775807, '`+long+`', 'scheduling')`)
		want = append([]row{{"9223372036854775807", long, "scheduling"}, {"9007199254740993", `<b onclick="alert(1)">bold</b>`, "abandoned"}}, want...)
		p.table(want)
		equal(t, "link", eval[string](p, `document.querySelector('#rows a').href`), s.url+"/executions/9223372036854775807")
		p.fits()
		p.notReloaded()
	})

	// The server is killed and comes back with the same address and database, while
	// others write.
	for name, prepare := range map[string]func(t *testing.T, db *pgx.Conn){
		"Killed/Listen": func(*testing.T, *pgx.Conn) {},
		"Killed/Log": func(t *testing.T, db *pgx.Conn) {
			t.Helper()
			if err := live.Install(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			db := connect(t, url)
			prepare(t, db)
			first := serveWithRunner(t, url)
			write := func() {
				execSQL(t, db, `INSERT INTO attune.execution (action_ref, status) VALUES ('slack.post', 'scheduled');
					UPDATE attune.execution SET status = (CASE status WHEN 'scheduled' THEN 'running' ELSE 'completed' END)::attune.execution_status_enum
					WHERE id IN (SELECT max(id) FROM attune.execution UNION SELECT max(id) / 2 FROM attune.execution)`)
			}
			for range 5 {
				write()
			}
			p := browser.open(t, first, regexp.MustCompile(`net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)`))
			p.waits("it is live", `text('#badge') === 'live'`)
			p.table(list(t, first))

			for _, during := range []struct {
				what string
				do   func()
			}{{"quiet", func() {}}, {"busy", write}} {
				// What the page shows at the moment when it says that it is live.
				eval[bool](p, `window.claim = undefined, new MutationObserver((_, observer) => {
					if (text('#badge') === 'live') { observer.disconnect(); claim = { rows: rows() }; }
				}).observe(document.querySelector('#badge'), { childList: true }), true`)
				first.signal(syscall.SIGKILL)
				killed := time.Now()
				p.waits("it says that it is not live", `/^reconnecting since \d\d:\d\d:\d\d$/.test(text('#badge'))`)
				told := time.Since(killed)
				for range 5 {
					write()
				}
				first.wait()
				first = serveWithRunner(t, url, "ATTUNE_LISTEN_ADDR="+strings.TrimPrefix(first.url, "http://"))
				up := time.Now()
				p.waits("it says that it is live", `text('#badge') === 'live'`, during.do)
				t.Logf("%s: the page told %s after the kill, and was live %s after the restart",
					during.what, told.Round(time.Millisecond), time.Since(up).Round(time.Millisecond))
				if during.what == "quiet" {
					claim := eval[struct{ Rows []row }](p, `claim`)
					equal(t, "what it shows when it says that it is live", claim.Rows, list(t, first))
				}
				write()
				p.table(list(t, first))
			}
			p.notReloaded()
		})
	}

	// A database without executions: every notification.
	t.Run("NoExecutionTable", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		db := connect(t, url)
		s := serve(t, "DATABASE_URL="+url, "ATTUNE_CHANNELS=orders", "ATTUNE_RUNNER=false")
		p := browser.open(t, s, regexp.MustCompile(`responded with a status of 501`)) // that is how the page learns it
		p.waits("it is live and quiet", `text('#badge') === 'live' && shown('#quiet') && !shown('#executions') && !shown('#notice')`)
		p.fits()

		long := strings.Repeat("x", 500)
		execSQL(t, db, `SELECT pg_notify('orders', '{"entity_type":"order","entity_id":"A-7","note":"<i>`+long+`"}'), pg_notify('orders', '{"entity_type":"order","entity_id":9007199254740993}')`)
		p.waits("both are there, the newest first", `/^\d\d:\d\d:\d\d orders order 9007199254740993\{/.test(text('#log li')) && text('#log li:nth-child(2)').includes('order A-7{') &&
			text('#log li:nth-child(2)').includes('<i>`+long+`') && !shown('#quiet') && document.querySelectorAll('#log li').length === 2`)
		p.fits()
		execSQL(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'attune listener' AND datname = current_database()`)
		p.waits("it shows the gap", `text('#log .gap').includes('listener_reconnected') && text('#badge') === 'live'`)
		p.notReloaded()
	})
}

// How long after a commit the new status is on the screen: from before the statement
// is sent to after the frame that shows it is painted.
//
// Not parallel: this way nothing of this package runs beside it.
func TestPage_Speed(t *testing.T) {
	const runs, limit = 31, time.Second
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), connect(t, url)
	execSQL(t, db, `INSERT INTO attune.execution (action_ref) SELECT 'slack.post' FROM generate_series(1, 60)`)
	p := startBrowser(t).open(t, s, nil)
	p.waits("it is live", `text('#badge') === 'live' && rows().length === 50`)
	var all []time.Duration
	for i := range runs {
		status := []wire.Status{wire.StatusRunning, wire.StatusScheduled}[i%2]
		eval[bool](p, `window.painted = new Promise((resolve) => {
			const cell = document.querySelector('#rows .status');
			new MutationObserver((_, observer) => {
				if (cell.textContent === '`+string(status)+`') {
					observer.disconnect();
					requestAnimationFrame(() => setTimeout(() => resolve(Date.now())));
				}
			}).observe(cell, { childList: true });
		}), true`)
		before := time.Now()
		execSQL(t, db, `UPDATE attune.execution SET status = '`+string(status)+`' WHERE id = 60`)
		at := eval[int64](p, `painted`)
		all = append(all, time.UnixMilli(at).Sub(before))
	}
	slices.Sort(all)
	t.Logf("a status is painted after it was written: median %s, least %s, most %s (race detector: %t)",
		all[runs/2].Round(time.Millisecond), all[0].Round(time.Millisecond), all[runs-1].Round(time.Millisecond), raceEnabled())
	// Nine of ten, as the machine may do something else in between.
	if got := all[runs*9/10]; got > limit {
		t.Errorf("%s, want at most %s", got, limit)
	}
}

// browser is a Chromium.
type browser struct {
	ctx context.Context //nolint:containedctx // what chromedp keeps a browser in
}

// startBrowser starts a browser that ends with t.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: the page is tested in it", err)
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program), chromedp.Env("HOME="+t.TempDir()),
		chromedp.NoSandbox, // root, and users within containers, can not have one; the pages are ours
		chromedp.DisableGPU,
		// It is to talk to nobody else.
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
	)
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	t.Cleanup(stop) // waits for its end
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("stop %s: %v", program, err)
		}
	})
	return &browser{ctx}
}

// tab is the start page of a server in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // what chromedp keeps a tab in
}

// row is an execution as the page shows it.
type row struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	Status string `json:"status"`
}

// helpers are what the expressions of these tests may use.
const helpers = `
	window.text = (selector) => document.querySelector(selector)?.textContent ?? '';
	window.shown = (selector) => document.querySelector(selector).checkVisibility();
	window.rows = () => [...document.querySelectorAll('#rows tr')].map(({ cells }) =>
		({ id: cells[0].textContent, action: cells[1].textContent, status: cells[2].textContent }));
	true`

// open opens the page in a tab that ends with t. Whatever the browser then says in
// the tab's console, a violation of the Content-Security-Policy included, fails t,
// unless it matches expected, which may be nil.
func (b *browser) open(t *testing.T, s *server, expected *regexp.Regexp) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := &tab{t, ctx}
	const last = "the test has ended"
	messages := chromedp.Console(ctx)
	var console sync.WaitGroup
	console.Go(func() {
		for m, err := range messages {
			if err != nil || m.Text == last {
				return
			}
			if expected == nil || !expected.MatchString(m.Text) {
				t.Errorf("the console says: %s (%s %s)", m, m.Source, m.URL)
			}
		}
	})
	t.Cleanup(func() {
		defer console.Wait()
		defer closeTab()
		if t.Failed() {
			t.Logf("the page shows:\n%s", eval[string](p, `document.body.innerText`))
		}
		eval[bool](p, `console.info('`+last+`'), true`)
		console.Wait() // for what was said before
	})
	p.do(chromedp.Navigate(s.url + "/"))
	eval[bool](p, helpers)
	return p
}

// do runs an action in the tab.
func (p *tab) do(action chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of an expression in the tab, of a promise what it becomes.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// waits waits until a condition holds in the tab, and does something meanwhile.
func (p *tab) waits(what, condition string, meanwhile ...func()) {
	p.t.Helper()
	eventually(p.t, what, func() bool {
		for _, do := range meanwhile {
			do()
		}
		return eval[bool](p, condition)
	})
}

// table waits until the page has exactly these rows, in this order.
func (p *tab) table(want []row) {
	p.t.Helper()
	var got []row
	defer func() {
		if diff := cmp.Diff(want, got); diff != "" {
			p.t.Errorf("rows (-want +got):\n%s", diff)
		}
	}()
	eventually(p.t, "the table is right", func() bool {
		got = eval[[]row](p, `rows()`)
		return slices.Equal(got, want)
	})
}

// fits checks that nothing is wider than a small phone.
func (p *tab) fits() {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	if width := eval[int](p, `document.documentElement.scrollWidth`); width != 360 {
		p.t.Errorf("the page is %d px wide where the screen has 360", width)
	}
	p.do(chromedp.ResetViewport())
}

// notReloaded checks that the page is still the one that was opened.
func (p *tab) notReloaded() {
	p.t.Helper()
	if !eval[bool](p, `'rows' in window`) {
		p.t.Error("the page was loaded again")
	}
}

// list returns what the page is to show: the newest executions.
func list(t *testing.T, s *server) (rows []row) {
	t.Helper()
	_, body := s.get(t, "/executions?limit=50")
	for _, x := range decode[wire.ExecutionList](t, body).Items {
		rows = append(rows, row{strconv.FormatInt(x.ID, 10), x.ActionRef, string(x.Status)})
	}
	return rows
}
