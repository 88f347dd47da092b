package main_test

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"attune/pg/pgtest"
)

// What the README shows is what its reader gets, on a fresh database each time.
func TestReadme_Tour(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	s := serveWithRunner(t, pgtest.Database(t))

	if _, says := example(t, readme, "attune serve"); !shows(t, says, "…\n"+s.stdout.String()) {
		t.Errorf("serve says\n%swhere the README has\n%s", s.stdout, says)
	}
	command, says := example(t, readme, "curl -N")
	stream := s.do(t, http.MethodGet, path(t, command), "")
	defer stream.Body.Close()
	var streamed bytes.Buffer
	upTo := func(text string) {
		b := make([]byte, 4096)
		for !strings.Contains(streamed.String(), text) {
			n, err := stream.Body.Read(b)
			streamed.Write(b[:n])
			if err != nil {
				t.Fatalf("%v after\n%s", err, &streamed)
			}
		}
	}
	upTo(`"cursor"`)

	command, transcript := example(t, readme, "attune action execute")
	sh := shell(t, command+" 2>&1", "ATTUNE_URL="+s.url)
	out, err := sh.CombinedOutput()
	if err != nil || !shows(t, transcript, string(out)) {
		t.Errorf("%s: %v\n%swhere the README has\n%s", command, err, out, transcript)
	}
	upTo(`"execution_created"`)
	if !shows(t, says+"…", streamed.String()) {
		t.Errorf("curl -N says\n%swhere the README has\n%s", &streamed, says)
	}
	command, says = example(t, readme, "curl 'localhost")
	if _, body := s.get(t, path(t, command)); !shows(t, says, body) {
		t.Errorf("%s says\n%swhere the README has\n%s", command, body, says)
	}
}

func TestReadme_YourOwnDatabase(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	_, rest, _ := strings.Cut(readme, "```sql\n")
	sql, _, _ := strings.Cut(rest, "```")
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	execSQL(t, db, sql)

	command, _ := example(t, readme, "DATABASE_URL=")
	setting := regexp.MustCompile(`ATTUNE_CHANNELS=\S+`).FindString(command)
	s := serve(t, "DATABASE_URL="+url, setting)
	command, says := example(t, readme, "attune events")
	follower := s.start(t, strings.Fields(strings.ReplaceAll(command, " -q", ""))[1:]...) // not quiet: it says when it is there
	follower.says(follower.stderr, "subscribed to")
	execSQL(t, db, `INSERT INTO orders (status, customer_id) VALUES ('paid', 7)`)
	execSQL(t, db, `UPDATE orders SET status = 'shipped'`)
	follower.says(follower.stdout, "shipped")
	if !shows(t, says, strings.ReplaceAll(follower.stdout.String(), " : ", ":")) {
		t.Errorf("%s says\n%swhere the README has\n%s", command, follower.stdout, says)
	}
}

// example returns the command of a console block that begins so, and what the block
// says that it prints.
func example(t *testing.T, readme, begin string) (command, prints string) {
	t.Helper()
	for block := range strings.SplitSeq(readme, "```console\n") {
		block, _, _ = strings.Cut(block, "```")
		for entry := range strings.SplitSeq("\n"+block, "\n$ ") {
			if strings.HasPrefix(entry, begin) {
				command, prints, _ = strings.Cut(entry, "\n")
				return command, prints
			}
		}
	}
	t.Fatalf("the README has no example of %s", begin)
	return "", ""
}

// path returns the path that a curl command asks for.
func path(t *testing.T, command string) string {
	t.Helper()
	found := regexp.MustCompile(`'localhost:8081(/[^']*)'`).FindStringSubmatch(command)
	if found == nil {
		t.Fatalf("no URL in %s", command)
	}
	return found[1]
}

// shows reports whether an output is as the README says, but for what differs between
// runs; an ellipsis there stands for anything.
func shows(t *testing.T, readme, output string) bool {
	t.Helper()
	pattern := regexp.QuoteMeta(strings.TrimSpace(readme))
	for _, vary := range []string{
		`\d{4}-\d\d-\d\dT[0-9:.]+Z`, `client_\d+`, `retry: \d+`, `[0-9a-z-]{6,}\.\d+`, `(localhost|127\.0\.0\.1):\d+`, `…`,
	} {
		in := vary
		if vary == `…` {
			in = `(?s:.*)`
		}
		// QuoteMeta has put a backslash before what is not a letter, a digit or a space.
		quoted := strings.ReplaceAll(vary, `[0-9:.]+`, `[0-9:.\\]+`)
		quoted = strings.ReplaceAll(quoted, `\.`, `\\\.`)
		pattern = regexp.MustCompile(quoted).ReplaceAllLiteralString(pattern, in)
	}
	matched, err := regexp.MatchString(`^\s*`+pattern+`\s*$`, output)
	if err != nil {
		t.Fatal(err)
	}
	return matched
}
