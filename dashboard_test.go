package main_test

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"attune/attunetest"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

// The dashboard in a real browser.
func TestDashboard(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)

	// From an empty database on, without a reload.
	t.Run("Executions", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
		p := browser.open(t, s, nil)
		p.waits("it is live and empty", `text('#badge') === 'live' && shown('#first') && !shown('.list') && !shown('#notice')`)
		p.fits()

		command := eval[string](p, `text('#first')`)
		sh := shell(t, command, "ATTUNE_URL="+s.url)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		want := []row{{"1", "core.echo", "completed"}}
		p.table(want)
		p.waits("it is not empty any more", `!shown('#first') && shown('.list')`)

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
		equal(t, "link", eval[string](p, `drawn()[0].querySelector('a').href`), s.url+"/?execution=9223372036854775807")
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
			db := pgtest.Connect(t, url)
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
			p.top50(first)

			for _, during := range []struct {
				what string
				do   func()
			}{{"quiet", func() {}}, {"busy", write}} {
				// What the page shows at the moment when it says that it is live.
				eval[bool](p, `window.claim = undefined, new MutationObserver((_, observer) => {
					if (text('#badge') === 'live') { observer.disconnect(); claim = { rows: rows().slice(0, 15) }; }
				}).observe(document.querySelector('#badge'), { childList: true }), true`)
				first.signal(syscall.SIGKILL)
				killed := time.Now()
				p.waits("it says that it is not live", `/^stale since \d\d:\d\d:\d\d$/.test(text('#badge'))`)
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
					equal(t, "what it shows when it says that it is live", claim.Rows, list(t, first)[:len(claim.Rows)])
				}
				write()
				p.top50(first)
			}
			p.notReloaded()
		})
	}
}

// How long after a commit the new status is on the screen: from before the statement
// is sent to after the frame that shows it is painted.
//
// Not parallel: this way nothing of this package runs beside it.
func TestDashboard_Speed(t *testing.T) {
	const runs = 31
	limit := 200 * time.Millisecond
	if attunetest.RaceEnabled() {
		limit = time.Second // on a machine where everything is tested at once
	}
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	execSQL(t, db, `INSERT INTO attune.execution (action_ref) SELECT 'slack.post' FROM generate_series(1, 60)`)
	p := startBrowser(t).open(t, s, nil)
	p.waits("it is live", `text('#badge') === 'live' && rows().length > 0`)
	var all []time.Duration
	for i := range runs {
		status := []wire.Status{wire.StatusRunning, wire.StatusScheduled}[i%2]
		eval[bool](p, `window.painted = new Promise((resolve) => {
			const cell = drawn()[0].querySelector('.word');
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
		all[runs/2].Round(time.Millisecond), all[0].Round(time.Millisecond), all[runs-1].Round(time.Millisecond), attunetest.RaceEnabled())
	// Nine of ten, as the machine may do something else in between.
	if got := all[runs*9/10]; got > limit {
		t.Errorf("%s, want at most %s", got, limit)
	}
}

// row is an execution as the page shows it.
type row struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	Status string `json:"status"`
}

// helpers are what the expressions of these tests may use. The table draws what can be
// seen: rows() are those, scrolled(n) goes through the first n.
const helpers = `
	window.text = (selector) => document.querySelector(selector)?.textContent ?? '';
	window.shown = (selector) => document.querySelector(selector)?.checkVisibility() ?? false;
	window.frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
	window.drawn = () => [...document.querySelectorAll('.executions .rows .row')]
		.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex);
	window.rowOf = (row) => ({ id: row.querySelector('.id').textContent, action: row.querySelector('.name').textContent, status: row.querySelector('.word').textContent });
	window.rows = () => drawn().map(rowOf);
	window.cells = (at) => [...[...document.querySelectorAll('.tables .rows .row')].sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)[at]?.children ?? []].map((cell) => cell.textContent);
	window.scrolled = async (n) => {
		const scroller = document.querySelector('.executions .scroller');
		const all = [];
		for (scroller.scrollTop = 0;; scroller.scrollTop += scroller.clientHeight) {
			await frame();
			for (const row of drawn()) { all[row.ariaRowIndex - 2] = rowOf(row); }
			if (all.length >= n || scroller.scrollTop + scroller.clientHeight + 1 >= scroller.scrollHeight) { break; }
		}
		scroller.scrollTop = 0;
		await frame();
		return all.slice(0, n);
	};
	true`

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

// top50 waits until the page's first rows are the newest executions, none of them
// twice.
func (p *tab) top50(s *server) {
	p.t.Helper()
	var got, want []row
	defer func() {
		if diff := cmp.Diff(want, got); diff != "" {
			p.t.Errorf("rows (-want +got):\n%s", diff)
		}
	}()
	eventually(p.t, "the table is right", func() bool {
		want, got = list(p.t, s), eval[[]row](p, `scrolled(50)`)
		return slices.Equal(got, want)
	})
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
