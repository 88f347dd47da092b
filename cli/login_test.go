package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attune/wire"
)

// What is kept is used, by whoever may read it: its owner.
func TestRun_Login(t *testing.T) {
	s := newServer(t)
	s.add(wire.StatusCompleted)
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	file := filepath.Join(home, ".config", "attune", "config.yaml")
	login := func(token string, args ...string) {
		t.Helper()
		got := command{env: env, stdin: token}.run(t, append([]string{"login", "--token-stdin"}, args...)...)
		if got.code != 0 || got.stdout != "" || !strings.Contains(got.stderr, file) || strings.Contains(got.stderr, strings.TrimSpace(token)) {
			t.Fatalf("%+v", got)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	shown := func(want string, args ...string) {
		t.Helper()
		s.mu.Lock()
		s.tokens = nil
		s.mu.Unlock()
		if got := (command{env: env}).run(t, append(args, "execution", "list")...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.tokens) != 1 || s.tokens[0] != want {
			t.Errorf("the server was shown %q, want %q", s.tokens, want)
		}
	}

	login("one.two.three\n", "--url", s.url)
	shown("Bearer one.two.three")
	// Others may have been able to read it, and it may hold more than this command knows to write.
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, "# mine\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	login("four", "--profile", "other", "--url", s.url)
	shown("Bearer one.two.three")
	shown("Bearer four", "--profile", "other")
	login(" five ")
	shown("Bearer five")
	shown("Bearer four", "--profile", "other")
	if text, err = os.ReadFile(file); err != nil || !strings.Contains(string(text), "# mine") {
		t.Errorf("%v: %s", err, text)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestRun_Login_Refuses(t *testing.T) {
	for name, c := range map[string]struct {
		stdin, config string
		args          []string
		says          string
	}{
		"NoFlag":    {"x", "", []string{"login"}, "--token-stdin"},
		"Argument":  {"x", "", []string{"login", "--token-stdin", "token"}, "unknown command"},
		"Empty":     {" \n", "", []string{"login", "--token-stdin"}, "printable ASCII"},
		"Two":       {"a\nb\n", "", []string{"login", "--token-stdin"}, "printable ASCII"},
		"Long":      {strings.Repeat("a", 17<<10), "", []string{"login", "--token-stdin"}, "1 to 16384"},
		"URL":       {"x", "", []string{"login", "--token-stdin", "--url", "ftp://x"}, "want http://HOST:PORT"},
		"BadConfig": {"x", "profile: {}", []string{"login", "--token-stdin"}, `unknown key "profile"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := config(t, c.config)
			got := command{env: map[string]string{"XDG_CONFIG_HOME": dir}, stdin: c.stdin}.run(t, c.args...)
			if got.code != 2 || !strings.Contains(got.stderr, c.says) {
				t.Errorf("%+v", got)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "attune", "config.yaml")); err != nil || string(text) != c.config {
				t.Errorf("%v: %s", err, text)
			}
		})
	}
}
