package main_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/pg/pgtest"
)

// A platform's database with settings that are the same everywhere: what doctor says
// of it is pinned but for figures. `go test -run TestDoctor_JSON -update .` pins it
// anew.
func TestDoctor_JSON(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, []string{"DATABASE_URL=" + doctorDatabase(t)}, "doctor", "--json")
	if wantCode, _ := doctorVerdict(stdout); code != wantCode || stderr != "" || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(stdout), "", "\t"); err != nil {
		t.Fatal(err)
	}
	got := pretty.String()
	for _, figure := range []struct{ pattern, replacement string }{
		{`\d+(\.\d+)*`, "0"},
		{`0(µs|ms|s)\b`, "0s"},
		{`("version",\s+"level": )"\w+"(,\s+"message": )"[^"]*"(,\s+"remedy": )"[^"]*"`, `$1"…"$2"…"$3"…"`}, // depends on the machine
		{`"ok": (true|false)`, `"ok": "…"`},
	} {
		got = regexp.MustCompile(figure.pattern).ReplaceAllString(got, figure.replacement)
	}
	const golden = "testdata/doctor.json"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDoctor_Text(t *testing.T) {
	t.Parallel()
	t.Run("NothingToDo", func(t *testing.T) {
		t.Parallel()
		code, stdout, stderr := run(t, []string{"DATABASE_URL=" + doctorDatabase(t)}, "doctor")
		wantCode, verdict := doctorVerdict(stdout)
		if code != wantCode || stderr != "" || !strings.HasSuffix(stdout, "\n\n"+verdict+"\n") || strings.Contains(stdout, "\x1b") {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(stdout, "\n\n"+verdict+"\n"), "\n") {
			if !regexp.MustCompile(`^((ok|note|warning) +[a-z_]+ +\S| {24}→ \S)`).MatchString(line) {
				t.Errorf("line %q", line)
			}
		}
	})
	t.Run("ToDo", func(t *testing.T) {
		t.Parallel()
		database := pgtest.Database(t)
		code, stdout, stderr := run(t, nil, "doctor", "--database-url", database, "--channels", "orders", "--source=log")
		if code != 1 || stderr != "" || !strings.HasSuffix(stdout, " findings need action.\n") {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
		for _, want := range []string{"problem  log ", "warning  channels ", "→ install it: attune db install"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("stdout does not say %q", want)
			}
		}
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		if password, _ := u.User.Password(); strings.Contains(stdout, password) {
			t.Error("stdout has the password")
		}
	})
	t.Run("Unreachable", func(t *testing.T) {
		t.Parallel()
		code, stdout, stderr := run(t, []string{"DATABASE_URL=postgres://attune:" + secret + "@127.0.0.1:1/attune"}, "doctor")
		if code != 1 || !strings.Contains(stdout, "problem  reachable ") || strings.Contains(stdout+stderr, secret) {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
	})
	// What does not concern doctor may be wrong.
	t.Run("OtherSettings", func(t *testing.T) {
		t.Parallel()
		env := []string{"DATABASE_URL=" + doctorDatabase(t), "ATTUNE_LISTEN_ADDR=0.0.0.0:80", "ATTUNE_WORKERS=many"}
		code, stdout, stderr := run(t, env, "doctor")
		if wantCode, _ := doctorVerdict(stdout); code != wantCode || stderr != "" {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
	})
}

func TestDoctor_Usage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"NoDatabase": {nil, nil, "ATTUNE_DATABASE_URL"},
		"Channels":   {[]string{"DATABASE_URL=x"}, []string{"--channels", strings.Repeat("x", 64)}, "ATTUNE_CHANNELS"},
		"ListenOnly": {[]string{"ATTUNE_LISTEN_URL=x"}, nil, "ATTUNE_LISTEN_URL"},
		"Argument":   {nil, []string{"now"}, "now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, tt.env, append([]string{"doctor", "--json"}, tt.args...)...)
			if code != 2 || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			var answer map[string]map[string]string
			if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer["error"]["code"] != "usage" || !strings.Contains(answer["error"]["message"], tt.want) {
				t.Errorf("stdout %q", stdout)
			}
		})
	}
}

// doctorVerdict returns the exit code and the last line of an examination of
// doctorDatabase: whether the PostgreSQL of this machine has a bug is the only thing
// that may need action.
func doctorVerdict(stdout string) (code int, verdict string) {
	if strings.Contains(stdout, "warning  version") || strings.Contains(stdout, `"version","level":"warning"`) {
		return 1, "1 finding needs action."
	}
	return 0, "Nothing needs action."
}

// doctorDatabase returns the URL of a platform's database.
func doctorDatabase(t *testing.T) string {
	t.Helper()
	url := pgtest.Database(t)
	execSQL(t, pgtest.Connect(t, url), platform+`
		DO $$ BEGIN
			EXECUTE format('ALTER DATABASE %I SET tcp_keepalives_idle = 30', current_database());
			EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''5min''', current_database());
		END $$`)
	return url
}
