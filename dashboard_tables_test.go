package main_test

import (
	"regexp"
	"strings"
	"testing"

	"attune/pg/pgtest"
)

// A watched table of which this project has never heard: its rows, as they change.
func TestDashboard_Tables(t *testing.T) {
	t.Parallel()
	s, url := serveShop(t)
	db := pgtest.Connect(t, url)
	p := startBrowser(t).open(t, s, regexp.MustCompile(`responded with a status of 501`)) // there are no executions
	p.waits("without executions it shows tables", `location.search === '?view=tables' && text('.types') === 'ordersparcels' && text('#badge') === 'live'`)
	p.fits()
	p.click(`.types a`)
	p.waits("rows are there, the highest key first", `text('.tables .row.head') === 'ChangedKeyidstatustotalpaid' && cells(0).join() === ',50,50,new,10.5,' && text('#summary') === '50 rows'`)
	execSQL(t, db, `UPDATE orders SET status = 'shipped', total = 11 WHERE id = 7; DELETE FROM orders WHERE id = 50; INSERT INTO orders (id, status) VALUES (9007199254740993, '<b>new</b>')`)
	p.waits("the latest change comes first", `/^\d\d:\d\d:\d\d,9007199254740993,9007199254740993,<b>new<.b>,,$/.test(cells(0).join())`)
	p.waits("a change is shown", `/^\d\d:\d\d:\d\d,7,7,shipped,11,$/.test(cells(1).join())`)
	p.waits("what is deleted is gone", `cells(2).join() === ',49,49,new,10.5,' && text('#summary') === '50 rows'`)
	p.fits()
	p.press("jj")
	p.press("\r")
	p.waits("a row is shown whole", `text('dialog[open] h2') === 'orders 7' && text('dialog[open] pre').includes('"status": "shipped"')`)
	p.notReloaded()
}

// A database in which nothing is watched: every notification.
func TestDashboard_NoExecutionTable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	s := serve(t, "DATABASE_URL="+url, "ATTUNE_CHANNELS=orders", "ATTUNE_RUNNER=false")
	p := startBrowser(t).open(t, s, regexp.MustCompile(`responded with a status of (501|404)`)) // that is how the page learns it
	p.waits("it is live and quiet", `text('#badge') === 'live' && shown('#quiet') && text('#summary').includes('attune db watch') && !shown('#notice')`)
	p.fits()

	long := strings.Repeat("x", 500)
	execSQL(t, db, `SELECT pg_notify('orders', '{"entity_type":"order","entity_id":"A-7","note":"<i>`+long+`"}'), pg_notify('orders', '{"entity_type":"order","entity_id":9007199254740993}')`)
	p.waits("both are there, the newest first", `/^\d\d:\d\d:\d\dordersorder 9007199254740993\{/.test(text('.notes li')) && text('.notes li:nth-child(2)').includes('order A-7{') &&
		text('.notes li:nth-child(2)').includes('<i>`+long+`') && !shown('#quiet') && document.querySelectorAll('.notes li').length === 2`)
	p.fits()
	p.waits("the type that was seen is offered", `text('.types') === 'order'`)
	p.click(`.types a`)
	execSQL(t, db, `SELECT pg_notify('orders', '{"entity_type":"order","entity_id":"A-8","paid":true}')`)
	p.waits("what changes is a row", `/^\d\d:\d\d:\d\d,A-8,true$/.test(cells(0).join())`)
	p.notReloaded()
}
