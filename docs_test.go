package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"attune/pg/pgtest"
)

// The programs of docs/protocol.md run as they stand there, on a server at another
// address.
func TestProtocol_Examples(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	addresses := strings.NewReplacer("http://localhost:8081", s.url, "ws://localhost:8081", "ws"+strings.TrimPrefix(s.url, "http"))
	examples := func(language string, want int) []string {
		var found []string
		for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(read(t, "docs/protocol.md"), -1) {
			found = append(found, addresses.Replace(block[1]))
		}
		if len(found) != want {
			t.Fatalf("%d examples in %s, want %d", len(found), language, want)
		}
		return found
	}
	echo := func(t *testing.T) (id string) {
		t.Helper()
		return s.execute(t, "core.echo", "message=Hello!")
	}

	t.Run("JavaScript", func(t *testing.T) {
		t.Parallel()
		p := startBrowser(t).open(t, s, nil)
		eval[bool](p, `window.said = [], console.log = (...parts) => said.push(parts.join(' ')), true`)
		p.do(chromedp.Evaluate[chromedp.Void](examples("js", 1)[0]))
		p.waits("it follows", `said.includes('live')`)
		id := echo(t)
		p.waits("it says what happens", `said.includes('`+id+` completed')`)
	})

	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		scripts := examples("python", 2)
		follower := python(t, scripts[0])
		follower.says(follower.stderr, "live")
		id := echo(t)
		follower.says(follower.stdout, id+" completed\n")
		waiter := python(t, strings.ReplaceAll(scripts[1], "/executions/51?", "/executions/"+id+"?"))
		equal(t, "exit code", waiter.wait(), 0)
		equal(t, "stdout", waiter.stdout.String(), "completed {'message': 'Hello!'}\n")
	})

	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		programs := buildGo(t, examples("go", 2))
		ours := launch(t, nil, programs[0])
		ours.says(ours.stdout, ` completed {"message":"Hello!"}`+"\n")
		id, _, _ := strings.Cut(ours.stdout.String(), " ")
		ours.says(ours.stdout, "execution_status_changed "+id+` {`)

		follower := launch(t, nil, programs[1])
		follower.says(follower.stderr, "live")
		// The source was live before the filter was active, and nothing says when that is.
		eventually(t, "it follows", func() bool {
			echo(t)
			return strings.Contains(follower.stdout.String(), "execution_status_changed")
		})
	})
}

// python starts a script.
func python(t *testing.T, script string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "example.py")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return launch(t, nil, "python3", file)
}

// buildGo builds programs as packages of this module, where only the compiler sees
// them.
func buildGo(t *testing.T, sources []string) (programs []string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	var packages []string
	for i, source := range sources {
		name := "example" + strconv.Itoa(i)
		file := filepath.Join(dir, name+".go")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, "docs", name, "main.go")] = file
		packages = append(packages, "./docs/"+name)
		programs = append(programs, filepath.Join(dir, "bin", name))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"build", "-overlay", filepath.Join(dir, "overlay.json"), "-buildvcs=false", "-o", filepath.Join(dir, "bin") + "/"}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, packages...)...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return programs
}
