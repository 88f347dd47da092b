package main_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"attune/pg/pgtest"
)

// screenshots is where pictures of the views are put; "" makes them and throws them
// away.
var screenshots = flag.String("screenshots", "", "folder for pictures of the dashboard") //nolint:gochecknoglobals // a flag

// TestDashboard_Screenshots makes a picture of each view, light and dark:
// `make screenshots` keeps them in docs/screenshots.
func TestDashboard_Screenshots(t *testing.T) {
	t.Parallel()
	_, url := serveShop(t)
	db := pgtest.Connect(t, url)
	s := serveWithRunner(t, url) // makes the table of executions, too
	execSQL(t, db, `
		SELECT setseed(0.4);
		INSERT INTO attune.execution (action_ref, config, status, result, started_at, created, updated)
		SELECT action, '{"message": "hello"}', status::attune.execution_status_enum, CASE status WHEN 'failed' THEN '{"error": "connection refused"}'::jsonb END,
			CASE WHEN status <> 'scheduled' THEN begun + interval '80 ms' END, begun, CASE WHEN status IN ('running', 'scheduled') THEN begun ELSE begun + length END
		FROM (SELECT now() - (1500 - n) * interval '2.4 s' AS begun, random() * random() * interval '40 s' AS length,
				(ARRAY['slack.post', 'core.http_request', 'deploy.rollout', 'billing.invoice', 'core.echo'])[1 + (random() * 4)::int] AS action,
				CASE WHEN n > 1480 AND random() < 0.5 THEN 'running' WHEN n > 1480 AND random() < 0.3 THEN 'scheduled' WHEN random() < 0.9 THEN 'completed'
					WHEN random() < 0.6 THEN 'failed' WHEN random() < 0.5 THEN 'timeout' ELSE 'cancelled' END AS status
			FROM generate_series(1, 1500) n) rows;
		WITH parent AS (INSERT INTO attune.execution (action_ref, config, status, started_at, created) VALUES
			('workflow.nightly', '{"region": "eu-central", "dry_run": false}', 'running', now() - interval '70 s', now() - interval '72 s') RETURNING id)
		INSERT INTO attune.execution (action_ref, status, parent, started_at, created, updated)
		SELECT 'deploy.rollout', (CASE WHEN n <= 3 THEN 'failed' WHEN n <= 9 THEN 'running' ELSE 'completed' END)::attune.execution_status_enum, id,
			now() - interval '60 s', now() - interval '65 s', now() - n * interval '400 ms' FROM parent, generate_series(1, 128) n`)
	p := startBrowser(t).open(t, s, nil)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		for _, shot := range []struct {
			name, path, there string
			width, height     int64
		}{
			{"executions", "/", `text('#summary') === '1,629 executions' && text('.chip.good') !== 'completed 0'`, 1200, 720},
			{"execution", "/?execution=1501", `text('#result') === 'not yet' && document.querySelectorAll('.children li').length === 128`, 1200, 900},
			{"activity", "/?view=activity", `document.querySelectorAll('.plot canvas').length === 2`, 1200, 760},
			{"tables", "/?table=orders", `cells(0).length > 3`, 1200, 560},
			{"system", "/?view=system", `text('.figures dd') === 'live'`, 1200, 820},
			{"phone", "/", `rows().length > 5`, 360, 720},
		} {
			p.do(chromedp.EmulateViewport(shot.width, shot.height))
			p.goTo(shot.path)
			p.waits(shot.name+" is there", shot.there+` && text('#badge') === 'live'`)
			eval[bool](p, `frame().then(frame).then(() => true)`)
			png := p.screenshot()
			if len(png) < 5000 || len(png) > 250_000 {
				t.Errorf("%s %s: a picture of %d bytes", shot.name, scheme, len(png))
			}
			if *screenshots != "" {
				if err := os.WriteFile(filepath.Join(*screenshots, shot.name+"-"+scheme+".png"), png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
