package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"attune/pg/pgtest"
	"attune/wire"
)

// Every way in which a wait can end has its exit code.
func TestWait_ExitCode(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	s := serveWithRunner(t, url)
	never := newGate(t)
	for name, tt := range map[string]struct {
		args []string
		code int
		says string // on stderr
	}{
		"Completed":        {[]string{"action", "execute", "core.noop", "--wait"}, 0, "completed"},
		"Failed":           {[]string{"action", "execute", "core.fail", "--param", "message=no luck", "--wait"}, 5, "failed"},
		"Timeout":          {never.action("--param", "timeout=0.2"), 7, "timed out"},
		"GoingOn":          {never.action("--timeout", "0"), 3, "To go on waiting: attune execution wait "},
		"UnknownAction":    {[]string{"action", "execute", "core.ehco", "--wait"}, 2, "core.echo"},
		"MissingParameter": {[]string{"action", "execute", "core.echo", "--wait"}, 2, "message"},
		"BadParameter":     {[]string{"action", "execute", "core.sleep", "--param", "seconds=soon", "--wait"}, 2, "seconds"},
		"UnknownID":        {[]string{"execution", "wait", "4242"}, 1, "4242"},
		"NoID":             {[]string{"execution", "wait", "first"}, 2, "first"},
		"UnknownFlag":      {[]string{"action", "execute", "core.noop", "--wiat"}, 2, "--wiat"},
		"BadTimeout":       {[]string{"execution", "wait", "1", "--timeout", "soon"}, 2, "want a duration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := s.attune(t, tt.args...)
			if code != tt.code || !strings.Contains(stderr, tt.says) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", code, tt.code, tt.says, stderr)
			}
		})
	}

	t.Run("Cancelled", func(t *testing.T) {
		t.Parallel()
		id := s.execute(t, "core.sleep", "seconds=600")
		s.reaches(t, id, wire.StatusRunning)
		waiter := s.start(t, "execution", "wait", id)
		waiter.says(waiter.stderr, "subscribed to")
		if code, _, stderr := s.attune(t, "execution", "cancel", id); code != 0 {
			t.Errorf("exit code of the cancellation %d: %s", code, stderr)
		}
		if code := waiter.wait(); code != 6 {
			t.Errorf("exit code %d, want 6", code)
		}
		if code, _, _ := s.attune(t, "execution", "cancel", id); code != 1 {
			t.Errorf("exit code of a second cancellation %d, want 1", code)
		}
	})

	t.Run("Abandoned", func(t *testing.T) {
		t.Parallel()
		execSQL(t, db, `INSERT INTO attune.execution (id, action_ref, status) VALUES (5000, 'slack.post', 'running')`)
		waiter := s.start(t, "execution", "wait", "5000")
		waiter.says(waiter.stderr, "subscribed to")
		execSQL(t, db, `UPDATE attune.execution SET status = 'abandoned' WHERE id = 5000`)
		if code := waiter.wait(); code != 7 {
			t.Errorf("exit code %d, want 7", code)
		}
	})

	t.Run("NoServer", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{{"action", "execute", "core.noop", "--wait"}, {"execution", "wait", "1", "--timeout", "2"}} {
			code, stdout, stderr := run(t, []string{"ATTUNE_URL=http://127.0.0.1:1"}, args...)
			if code != 1 || stdout != "" || !strings.Contains(stderr, "127.0.0.1:1") {
				t.Errorf("%v: exit code %d, stdout %q, stderr:\n%s", args, code, stdout, stderr)
			}
		}
	})
}

// A script reads one JSON value, whatever happens.
func TestWait_JSON(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	one := func(t *testing.T, want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := s.attune(t, append(args, "--json")...)
		if code != want || strings.Count(stdout, "\n") != 1 {
			t.Errorf("%v: exit code %d, want %d and one line in %q; stderr:\n%s", args, code, want, stdout, stderr)
		}
		return stdout
	}

	t.Run("Execution", func(t *testing.T) {
		t.Parallel()
		x := decode[wire.Execution](t, one(t, 0, "action", "execute", "core.echo", "--param", "message=<Hello> & goodbye!", "--wait"))
		equal(t, "result", string(x.Result), `{"message":"<Hello> & goodbye!"}`)
		_, body := s.get(t, "/executions/"+wire.IntID(x.ID).String())
		equal(t, "what show prints", one(t, 0, "execution", "show", wire.IntID(x.ID).String()), strings.TrimSpace(body)+"\n")

		x = decode[wire.Execution](t, one(t, 5, "action", "execute", "core.fail", "--wait"))
		equal(t, "status", x.Status, wire.StatusFailed)

		x = decode[wire.Execution](t, one(t, 3, newGate(t).action("--timeout", "1")...))
		equal(t, "status", x.Status, wire.StatusRunning)
	})

	t.Run("Error", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			code wire.Code
			exit int
			args []string
		}{
			{wire.CodeUnknownAction, 2, []string{"action", "execute", "core.ehco", "--wait"}},
			{wire.CodeInvalidParameter, 2, []string{"action", "execute", "core.echo", "--wait"}},
			{wire.CodeNotFound, 1, []string{"execution", "wait", "4242"}},
			{"usage", 2, []string{"execution", "wait", "x"}},
			{"unreachable", 1, []string{"execution", "wait", "1", "--timeout", "0", "--url", "http://127.0.0.1:1"}},
		} {
			refused := decode[problem](t, one(t, tt.exit, tt.args...))
			if refused.Error.Code != tt.code || refused.Error.Message == "" {
				t.Errorf("%v: %+v, want code %s", tt.args, refused.Error, tt.code)
			}
		}
	})

	t.Run("Several", func(t *testing.T) {
		t.Parallel()
		good, bad, slow := s.execute(t, "core.noop"), s.execute(t, "core.fail"), s.execute(t, "core.sleep", "seconds=0.5")
		code, stdout, _ := s.attune(t, "execution", "wait", slow, bad, "4242", good, "--json")
		lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
		if code != 5 || len(lines) != 4 {
			t.Fatalf("exit code %d, want 5 and four lines:\n%s", code, stdout)
		}
		equal(t, "first", decode[wire.Execution](t, lines[0]).Status, wire.StatusCompleted)
		equal(t, "second", decode[wire.Execution](t, lines[1]).Status, wire.StatusFailed)
		equal(t, "third", decode[problem](t, lines[2]).Error.Code, wire.CodeNotFound)
		equal(t, "fourth", wire.IntID(decode[wire.Execution](t, lines[3]).ID).String(), good)
	})
}

// Ctrl-C leaves the execution alone, and what is printed takes up the wait again.
func TestWait_Interrupted(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	for name, sig := range map[string]syscall.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			waiter := start(t, nil, g.action("--url", s.url, "--json")...)
			waiter.says(waiter.stderr, "status=running")
			waiter.signal(sig)
			if code := waiter.wait(); code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
			equal(t, "status", decode[wire.Execution](t, waiter.stdout.String()).ActionRef, "core.http_request")
			found := regexp.MustCompile(`attune (execution wait .*)`).FindStringSubmatch(waiter.stderr.String())
			if found == nil {
				t.Fatal("no command was printed")
			}
			again := start(t, nil, strings.Fields(found[1])...)
			again.says(again.stderr, "subscribed to")
			g.open()
			if code := again.wait(); code != 0 || !strings.Contains(again.stdout.String(), `"status":200`) {
				t.Errorf("exit code %d, stdout %q", code, again.stdout)
			}
		})
	}
}

// The command that this project began with, with a profile that says where.
func TestProfile(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t))
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "attune"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := "profiles:\n  docker:\n    url: " + s.url + "\n  elsewhere:\n    url: http://127.0.0.1:1\n"
	if err := os.WriteFile(filepath.Join(home, "attune", "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"XDG_CONFIG_HOME=" + home}
	code, stdout, stderr := run(t, env, "--profile", "docker", "action", "execute", "core.echo", "--param", "message=Hello!", "--wait")
	if code != 0 || stdout != `{"message":"Hello!"}`+"\n" {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", code, stdout, stderr)
	}
	if code, _, _ := run(t, append(env, "ATTUNE_PROFILE=docker"), "execution", "show", "1"); code != 0 {
		t.Errorf("exit code with ATTUNE_PROFILE %d", code)
	}
	if code, _, _ := run(t, append(env, "ATTUNE_URL="+s.url), "--profile", "elsewhere", "execution", "show", "1"); code != 0 {
		t.Errorf("exit code with ATTUNE_URL over the profile %d", code)
	}
	if code, _, stderr := run(t, env, "--profile", "dcoker", "execution", "show", "1"); code != 2 || !strings.Contains(stderr, "docker, elsewhere") {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
}
