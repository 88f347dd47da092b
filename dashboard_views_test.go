package main_test

import (
	"slices"
	"strings"
	"testing"

	"attune/pg/pgtest"
)

// One execution: what it was given, where it stood how long, what came of it.
func TestDashboard_Execution(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	p := startBrowser(t).open(t, s, nil)
	p.waits("it is live", `text('#badge') === 'live'`)

	id := s.execute(t, "core.sleep", "seconds=2")
	p.waits("it is there", `rows().length === 1`)
	p.click(`.rows a`)
	p.waits("it is opened", `location.search === '?execution=`+id+`' && text('h1') === '`+id+`' && document.title === 'Execution `+id+` · attune'`)
	p.waits("it has its result", `text('.execution .status .word') === 'completed' && text('pre').includes('"seconds": 2') && text('#result') !== 'not yet'`)
	p.waits("the notifications that concern it are there", `[...document.querySelectorAll('.notes li .type')].map((type) => type.textContent).includes('execution_status_changed') && text('.notes li').includes('running → completed')`)
	// To scale: nearly all of the time it was running.
	p.waits("the timeline is to scale", `document.querySelector('.span.running').offsetWidth > 0.5 * document.querySelector('.timeline').offsetWidth`)
	states := eval[[]string](p, `[...document.querySelectorAll('.spans .word')].map((word) => word.textContent.replace('…', ''))`)
	equal(t, "states", slices.DeleteFunc(states, func(s string) bool { return strings.HasPrefix(s, "schedul") }), []string{"requested", "running", "completed"})
	p.fits()

	// What can be copied works as it stands.
	commands := eval[[]string](p, `[...document.querySelectorAll('.command pre')].map((pre) => pre.textContent)`)
	equal(t, "commands", len(commands), 4)
	for _, command := range commands {
		sh := shell(t, command)
		if out, err := sh.CombinedOutput(); err != nil || !strings.Contains(string(out), "{") {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}

	// Children, folded into their parent, and as a list where it is opened.
	execSQL(t, db, `WITH parent AS (INSERT INTO attune.execution (id, action_ref, status, started_at) VALUES (1000, 'flow', 'running', now()) RETURNING id)
		INSERT INTO attune.execution (id, action_ref, status, parent) SELECT 1000 + n, 'step', (CASE WHEN n <= 3 THEN 'failed' ELSE 'completed' END)::attune.execution_status_enum, 1000
		FROM parent, generate_series(1, 128) n`)
	eval[bool](p, `history.back(), true`)
	p.waits("it is back, and so is the focus", `document.activeElement.closest('.row')?.dataset.key === '`+id+`'`)
	eval[bool](p, `document.activeElement.blur(), true`)
	p.waits("they are folded", `rows()[0]?.id === '1000' && text('.rows .note') === '128 children, 3 failed'`)
	p.click(`.rows .toggle`)
	p.waits("they are shown", `rows()[1]?.id === '1128' && document.querySelector('.rows .toggle').ariaExpanded === 'true'`)
	p.click(`.rows .toggle`)
	p.waits("they are folded again", `rows()[1]?.id === '3'`)
	p.click(`.rows a`)
	p.waits("they are listed, what failed first", `text('.children li .word') === 'failed' && document.querySelectorAll('.children li').length === 128`)
	execSQL(t, db, `UPDATE attune.execution SET status = 'failed' WHERE id = 1128`)
	p.waits("their counts follow", `[...document.querySelectorAll('h2')].some((title) => title.textContent === '128 children, 4 failed')`)

	// Cancelled here.
	id = s.execute(t, "core.sleep", "seconds=600")
	p.goTo("/?execution=" + id)
	p.waits("it can be cancelled", `text('.execution .status .word') === 'running' && shown('#cancel')`)
	p.click(`#cancel`)
	p.click(`#really`)
	p.waits("it is cancelled", `text('.execution .status .word') === 'cancelled' && !shown('#cancel')`)
	s.reaches(t, id, "cancelled")

	p.goTo("/?execution=77777")
	p.waits("what is not there is said", `text('.execution .empty').includes('77777')`)
}

// The figures of the last hour are those of the table.
func TestDashboard_Activity(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	execSQL(t, db, `INSERT INTO attune.execution (action_ref, status, created, started_at, updated)
		SELECT 'slack.post', (ARRAY['completed', 'completed', 'completed', 'failed', 'timeout', 'cancelled'])[1 + n % 6]::attune.execution_status_enum,
			now() - n * interval '30 s', now() - n * interval '30 s', now() - n * interval '30 s' + interval '2 s' FROM generate_series(0, 59) n;
		INSERT INTO attune.execution (action_ref, status, created, started_at, updated) VALUES ('old', 'completed', now() - interval '3 h', now() - interval '3 h', now() - interval '2 h');
		INSERT INTO attune.execution (action_ref, status, started_at) VALUES ('slack.post', 'running', now()), ('slack.post', 'scheduled', NULL)`)
	p := startBrowser(t).open(t, s, nil)
	p.goTo("/?view=activity")
	tiles := `[...document.querySelectorAll('.tile')].map((tile) => tile.textContent).join(' ')`
	p.waits("the figures are right", tiles+` === '30completed 20failed 10cancelled 1running now 1waiting now'`)
	p.waits("the plots are drawn", `document.querySelectorAll('.plot canvas').length === 2 && document.querySelector('.plot canvas').height > 100`)
	p.waits("durations are right", `text('.actions tbody tr') === 'slack.post602022.0 s2.0 s' && document.querySelectorAll('.actions tbody tr').length === 1`)
	p.fits()
	execSQL(t, db, `UPDATE attune.execution SET status = 'completed', updated = now() WHERE status = 'running'`)
	p.waits("they follow", tiles+` === '31completed 20failed 10cancelled 0running now 1waiting now'`)
	p.click(`.actions a`)
	p.waits("an action leads to its executions", `location.search === '?action=slack.post' && rows().length > 10`)
	p.notReloaded()
}

// What /stats knows.
func TestDashboard_System(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	p := startBrowser(t).open(t, s, nil)
	p.click(`[data-view=system]`)
	figure := func(name string) string {
		return `[...document.querySelectorAll('.figures div')].find((figure) => figure.firstChild.textContent === '` + name + `')?.lastChild.textContent`
	}
	p.waits("it is shown", figure("Health")+` === 'live' && `+figure("Event streams")+` === '1' && /ms$/.test(`+figure("Canary latency")+`) && /rows$/.test(`+figure("Lag")+`)`)
	s.execute(t, "core.noop")
	p.waits("it follows", `text('.system tbody').includes('execution_created1')`)
	p.fits()
	p.notReloaded()
}
