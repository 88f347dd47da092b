package main_test

import (
	"regexp"
	"testing"

	"attune/pg/pgtest"
)

// Whoever is not known is asked, and goes on where he was when his token had expired.
func TestDashboard_SignIn(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	s := serveWithRunner(t, url, "ATTUNE_JWT_SECRET="+jwtSecret)
	execSQL(t, db, many(30))
	p := startBrowser(t).open(t, s, regexp.MustCompile(`responded with a status of 401`)) // that is how the page learns it
	signIn := func(token string) {
		p.waits("it asks", `shown('#sign-in') && document.activeElement.id === 'token'`)
		eval[bool](p, `document.querySelector('#token').value = '`+token+`', document.querySelector('#sign-in form').requestSubmit(), true`)
	}
	signIn("not.a.token")
	p.waits("it says what is wrong", `shown('#sign-in .failure') && text('#sign-in .failure') !== ''`)
	signIn(mint(t, "--admin", "--user", "7", "--life", "4s"))
	p.waits("it shows everything", `text('#badge') === 'live' && text('#summary') === '30 executions' && !shown('#sign-in')`)
	p.goTo("/?status=failed")
	p.waits("it remembers", `text('#badge') === 'live' && text('#summary').startsWith('6 of')`)
	p.waits("it asks when the token has expired, and says that it is stale", `shown('#sign-in') && text('#badge').startsWith('stale since')`)
	execSQL(t, db, `UPDATE attune.execution SET status = 'failed' WHERE id = 30`)
	signIn(mint(t, "--admin", "--user", "7"))
	p.waits("it goes on where it was", `text('#badge') === 'live' && text('#summary').startsWith('7 of') && rows()[0].id === '30' && location.search === '?status=failed' && !shown('#sign-in')`)
}
