package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"attune/pg/pgtest"
)

// No view violates the WCAG 2.2 AA as far as axe-core can tell, light or dark, wide or
// narrow.
func TestDashboard_Axe(t *testing.T) {
	t.Parallel()
	axe := axeCore(t)
	url := pgtest.Database(t)
	s, db := serveWithRunner(t, url), pgtest.Connect(t, url)
	browser := startBrowser(t)
	check := func(p *tab, what string) {
		t.Helper()
		if !eval[bool](p, `'axe' in window`) {
			p.do(chromedp.Evaluate[chromedp.Void](axe)) // not as a script of the page: its policy forbids that
		}
		violations := eval[[]string](p, `axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
			.then(({ violations }) => violations.flatMap(({ id, help, nodes }) => nodes.map(({ html, failureSummary }) => id + ': ' + help + '\n' + html + '\n' + failureSummary)))`)
		for _, violation := range violations {
			t.Errorf("%s: %s", what, violation)
		}
	}
	p := browser.open(t, s, nil)
	p.waits("it is empty", `shown('#first') && text('#badge') === 'live'`)
	check(p, "empty")
	execSQL(t, db, many(200))
	execSQL(t, db, `UPDATE attune.execution SET parent = 199 WHERE id BETWEEN 50 AND 59`)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		for _, view := range []struct{ path, there string }{
			{"/", `rows().length > 5`},
			{"/?status=failed&q=slack", `rows().length > 5`},
			{"/?q=nothing", `shown('.empty')`},
			{"/?execution=199", `text('#result') !== '…' && document.querySelectorAll('.children li').length === 10`},
			{"/?view=activity", `document.querySelectorAll('.plot canvas').length === 2`},
			{"/?view=tables", `shown('.log')`},
			{"/?view=system", `text('.figures dd') === 'live'`},
		} {
			p.goTo(view.path)
			p.waits(view.path+" is there", view.there+` && text('#badge') === 'live'`)
			check(p, view.path+" "+scheme)
		}
		p.do(chromedp.EmulateViewport(360, 740))
		p.goTo("/")
		p.waits("it is there", `rows().length > 5`)
		check(p, "narrow "+scheme)
		p.press("?")
		check(p, "help "+scheme)
		p.do(chromedp.ResetViewport())
	}
}

// axeCore returns the checker, which npm brings; `make $AXE` does so, too.
func axeCore(t *testing.T) string {
	t.Helper()
	path, err := filepath.Glob(".tools/axe-core-*/node_modules/axe-core/axe.min.js")
	if err == nil && len(path) == 0 {
		if out, err := exec.CommandContext(t.Context(), "make", "axe-core").CombinedOutput(); err != nil {
			t.Fatalf("make axe-core: %v\n%s", err, out)
		}
		path, err = filepath.Glob(".tools/axe-core-*/node_modules/axe-core/axe.min.js")
	}
	if err != nil || len(path) == 0 {
		t.Fatalf("no axe-core below .tools: %v", err)
	}
	text, err := os.ReadFile(path[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
