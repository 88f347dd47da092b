package main_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"attune/pg/live"
	"attune/pg/pgtest"
)

// The source is found at start, and named where an operator looks.
func TestServe_Source(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	for _, tt := range []struct{ setting, want string }{{"auto", "listen"}, {"auto", "log"}, {"listen", "listen"}, {"log", "log"}} {
		if tt.want == "log" {
			if err := live.Install(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
		s := serve(t, "DATABASE_URL="+url, "ATTUNE_SOURCE="+tt.setting)
		s.says(s.stderr, " msg=ready addr="+s.url[len("http://"):]+" source="+tt.want+" ")
		_, body := s.get(t, "/stats")
		stats := decode[struct {
			Source struct {
				Source string         `json:"source"`
				Log    map[string]any `json:"log"`
			} `json:"source"`
		}](t, body)
		if stats.Source.Source != tt.want || (stats.Source.Log != nil) != (tt.want == "log") {
			t.Errorf("ATTUNE_SOURCE=%s: /stats says %+v, want %s", tt.setting, stats.Source, tt.want)
		}
	}
}

// A server deletes from the log what is beyond either bound, oldest first.
func TestServe_PrunesLog(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]string{"MaxRows": "ATTUNE_LOG_MAX_ROWS=3", "MaxAge": "ATTUNE_LOG_MAX_AGE=1m"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			db := pgtest.Connect(t, url)
			if err := live.Install(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			execSQL(t, db, `SELECT attune_live.notify('c', 't', i::text, '{}') FROM generate_series(1, 8) i`)
			execSQL(t, db, `UPDATE attune_live.notification_log SET created = now() - interval '1 hour' WHERE seq <= 5`)
			s := serve(t, "DATABASE_URL="+url, setting)
			s.says(s.stderr, ` msg="log pruned" rows=5`)
			rows, err := db.Query(t.Context(), `SELECT seq FROM attune_live.notification_log ORDER BY seq`)
			if err != nil {
				t.Fatal(err)
			}
			left, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if diff := cmp.Diff([]int64{6, 7, 8}, left); diff != "" || err != nil {
				t.Errorf("left in the log (-want +got):\n%s%v", diff, err)
			}
		})
	}
}
