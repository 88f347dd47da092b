package main_test

import (
	"regexp"
	"strings"
	"testing"

	"attune/pg/pgtest"
)

// The program of docs/browser-client.md follows a table as it stands there, and does not
// trust a stream through which the machine slept.
func TestBrowserClient(t *testing.T) {
	t.Parallel()
	s, url := serveShop(t)
	db := pgtest.Connect(t, url)
	p := startBrowser(t).open(t, s, regexp.MustCompile(`responded with a status of 501`))
	example := regexp.MustCompile(`(?s)<script type="module">\n(.*?)</script>`).FindStringSubmatch(read(t, "docs/browser-client.md"))
	if example == nil {
		t.Fatal("docs/browser-client.md has no example")
	}
	// As a function's body: a console has no modules, and the page's policy no scripts from elsewhere.
	program := strings.Replace(example[1], "import { connect, read } from '/attune.js';", "const { connect, read } = await import('/attune.js');", 1)
	p.waits("it is there", `text('#badge') === 'live'`)
	eval[bool](p, `(async () => {`+program+`; Object.assign(window, { orders, connection }); return true; })()`)
	p.waits("it read all", `orders.size === 50 && connection.state.phase === 'open'`)
	execSQL(t, db, `UPDATE orders SET status = 'shipped' WHERE id = 7`)
	p.waits("it follows", `orders.get(7).status === 'shipped'`)
	position := eval[string](p, `connection.cursor`)

	// Away: the clock jumps and the stream is silent for an hour, as far as the page can tell.
	eval[bool](p, `(() => {
		const now = Date.now;
		Date.now = () => now() + 3_600_000;
		window.opened = 0;
		const { fetch } = window;
		window.fetch = (...all) => (opened++, fetch(...all));
		return true;
	})()`)
	p.waits("it makes the stream anew by itself", `opened === 1 && connection.state.phase === 'open'`)
	execSQL(t, db, `UPDATE orders SET status = 'lost' WHERE id = 8`)
	p.waits("it follows", `orders.get(8).status === 'lost'`)
	if eval[string](p, `connection.cursor`) == position {
		t.Error("its position stayed")
	}
	eval[bool](p, `connection.close(), true`)
	p.waits("it is closed", `connection.state.phase === 'closed'`)
}
