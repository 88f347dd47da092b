package main_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"

	"attune/pg/pgtest"
)

// many are executions of all statuses, the newest of them 1 to n.
func many(n int) string {
	return fmt.Sprintf(`INSERT INTO attune.execution (id, action_ref, status, started_at, updated)
		SELECT n, (ARRAY['slack.post', 'core.echo', 'deploy.rollout'])[1 + n %% 3],
			(ARRAY['completed', 'completed', 'failed', 'running', 'cancelled'])[1 + n %% 5]::attune.execution_status_enum, now(), now()
		FROM generate_series(1, %d) n`, n)
}

// Filters stand in the address, and the back button takes them back.
func TestDashboard_Filters(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	execSQL(t, db, many(300))
	execSQL(t, db, `INSERT INTO attune.execution (id, action_ref, status, created) VALUES (301, 'slack.post', 'failed', now() - interval '2 h')`)
	p := startBrowser(t).open(t, s, nil)
	p.waits("all are there", `text('#summary') === '301 executions' && text('.chip.bad') === 'failed 61'`)
	p.click(`.chip.bad`)
	p.waits("those that failed", `location.search === '?status=failed' && text('#summary').startsWith('61 of the 301') && rows().every((row) => row.status === 'failed')`)
	eval[bool](p, `(() => { const action = document.querySelector('#action'); action.value = 'core.echo'; action.dispatchEvent(new Event('change')); return true; })()`)
	p.waits("and of one action", `location.search === '?status=failed&action=core.echo' && text('#summary').startsWith('20 of')`)
	eval[bool](p, `history.back(), true`)
	p.waits("the back button takes that back", `location.search === '?status=failed' && text('#summary').startsWith('61 of') && document.querySelector('#action').value === ''`)
	eval[bool](p, `history.back(), true`)
	p.waits("and all of it", `location.search === '' && text('#summary') === '301 executions' && document.querySelector('.chip.bad').ariaPressed === 'false'`)

	p.goTo("/?status=failed&since=1h&q=slack")
	p.waits("an address is a view", `text('#summary').startsWith('20 of') && document.querySelector('#search').value === 'slack' && document.querySelector('#period').value === '1h'`)
	execSQL(t, db, `UPDATE attune.execution SET status = 'failed' WHERE id = 300`)
	p.waits("what comes to match is shown", `rows()[0].id === '300' && text('#summary').startsWith('21 of')`)
	p.goTo("/?q=nothing-like-that")
	p.waits("where nothing matches it says so", `text('.empty').includes('No execution matches')`)
	p.click(`.empty button`)
	p.waits("and what to do", `location.search === '' && text('#summary') === '301 executions'`)
}

// Rows never move under a pointer, and pausing stops everything.
func TestDashboard_Held(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	execSQL(t, db, many(40))
	p := startBrowser(t).open(t, s, nil)
	p.waits("all are there", `text('#summary') === '40 executions' && text('#badge') === 'live'`)
	create := func(n int) {
		execSQL(t, db, fmt.Sprintf(`INSERT INTO attune.execution (action_ref) SELECT 'new' FROM generate_series(1, %d)`, n))
	}
	execSQL(t, db, `SELECT setval('attune.execution_id_seq', 1000)`)
	const under = `document.elementFromPoint(300, 300).closest('.row').dataset.key`

	p.move(300, 300)
	before := eval[string](p, under)
	create(37)
	execSQL(t, db, `UPDATE attune.execution SET status = 'abandoned' WHERE id = `+before)
	p.waits("what is new is counted", `text('#fresh') === '37 new' && getComputedStyle(document.querySelector('#fresh')).visibility === 'visible'`)
	p.waits("a row changes where it is", `document.elementFromPoint(300, 300).closest('.row').querySelector('.word').textContent === 'abandoned'`)
	equal(t, "row under the pointer", eval[string](p, under), before)
	equal(t, "first row", eval[string](p, `rows()[0].id`), "40")
	p.move(300, 20)
	p.waits("it comes in when the pointer is gone", `rows()[0].id === '1037' && getComputedStyle(document.querySelector('#fresh')).visibility === 'hidden'`)

	// Scrolled down; the same.
	eval[bool](p, `document.querySelector('.scroller').scrollTop = 320, true`)
	p.waits("it is scrolled", under+` !== '`+before+`'`)
	before = eval[string](p, under)
	create(3)
	p.waits("what is new is counted", `text('#fresh') === '3 new'`)
	equal(t, "row there", eval[string](p, under), before)
	p.click(`#fresh`)
	p.waits("it is shown when asked for", `rows()[0].id === '1040' && document.querySelector('.scroller').scrollTop === 0`)

	p.click(`#pause`)
	create(2)
	execSQL(t, db, `UPDATE attune.execution SET status = 'canceling' WHERE id = 1040`)
	p.waits("it is paused", `text('#fresh') === '2 new, 1 changed' && /as of \d\d:\d\d:\d\d/.test(text('#summary'))`)
	equal(t, "first row", eval[row](p, `rows()[0]`), row{"1040", "new", "requested"})
	p.click(`#pause`)
	p.waits("it goes on", `rows()[0].id === '1042' && rows()[2].status === 'canceling'`)
}

// Without a mouse.
func TestDashboard_Keyboard(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	execSQL(t, db, many(100))
	execSQL(t, db, `UPDATE attune.execution SET parent = 100 WHERE id BETWEEN 50 AND 59`)
	p := startBrowser(t).open(t, s, nil)
	p.waits("all are there", `text('#summary') === '100 executions'`)
	focused := func(id string) string {
		return `document.activeElement.closest('.row')?.dataset.key === '` + id + `' && document.activeElement.matches(':focus-visible')`
	}
	p.press("j")
	p.waits("the first row", focused("100"))
	p.press("l")
	p.waits("its children are shown", `rows()[1].id === '59'`)
	p.press("jj")
	p.waits("the next but one", focused("58"))
	p.press("k")
	p.waits("back", focused("59"))
	p.press("kh")
	p.waits("its children are folded", focused("100")+` && rows()[1].id === '99'`)
	for range 60 {
		p.press("j")
	}
	p.waits("far down, in sight", focused("30")+` && document.activeElement.getBoundingClientRect().bottom <= innerHeight`)
	p.press("\r")
	p.waits("it is opened", `location.search === '?execution=30' && text('h1') === '30'`)
	p.press("\x1b")
	p.waits("it is left, and the row is where it was", `location.search === '' && `+focused("30"))
	p.press("/")
	p.waits("the search", `document.activeElement.id === 'search'`)
	p.press("deploy")
	p.waits("it searches", `location.search === '?q=deploy' && rows().length > 0 && rows().every((row) => row.action === 'deploy.rollout')`)
	p.press("\x1b\x1b")
	p.waits("it does not any more", `location.search === '' && document.activeElement === document.body`)
	p.press("?")
	p.waits("help", `shown('dialog[open]') && text('dialog[open] h2') === 'Keys'`)
	p.press("\x1b")
	p.waits("help is gone", `!shown('dialog[open]')`)

	// The tab key reaches everything once, and the table takes one stop.
	eval[bool](p, `window.stops = [], document.addEventListener('focusin', ({ target }) => stops.push(target.closest('.row') ? 'row' : target.id || target.textContent)), true`)
	for range 22 {
		p.press("\t")
	}
	stops := eval[[]string](p, `stops`)
	for _, want := range []string{"Skip to the content", "Activity", "help", "search", "action", "period", "pause", "row"} {
		n := 0
		for _, stop := range stops {
			if stop == want {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the tab key reaches %q %d times, want once: %q", want, n, stops)
		}
	}
}

// move moves the pointer.
func (p *tab) move(x, y float64) {
	p.t.Helper()
	p.do(chromedp.MouseEvent("mouseMoved", x, y))
}
