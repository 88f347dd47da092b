package cli_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attune/cli"
	"attune/wire"
)

// config writes a configuration file and returns its directory.
func config(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "attune"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "attune", "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Where a command goes and what it shows there.
func TestRun_Profiles(t *testing.T) {
	here, there := newServer(t), newServer(t)
	here.add(wire.StatusCompleted)
	here.add(wire.StatusCompleted)
	there.add(wire.StatusCompleted)
	dir := config(t, `
default: here
profiles:
  here: {url: "`+here.url+`", token: token-here}
  there:
    url: `+there.url+`/
    token: token-there
  bare:
`)
	tests := map[string]struct {
		env   map[string]string
		args  []string
		want  *server
		token string
	}{
		"Default":         {nil, nil, here, "Bearer token-here"},
		"Flag":            {nil, []string{"--profile", "there"}, there, "Bearer token-there"},
		"Env":             {map[string]string{"ATTUNE_PROFILE": "there"}, nil, there, "Bearer token-there"},
		"FlagOverEnv":     {map[string]string{"ATTUNE_PROFILE": "there"}, []string{"--profile", "here"}, here, "Bearer token-here"},
		"URL":             {nil, []string{"--url", there.url}, there, ""},
		"EnvURL":          {map[string]string{"ATTUNE_URL": there.url}, nil, there, ""},
		"URLOverEnv":      {map[string]string{"ATTUNE_URL": here.url}, []string{"--url", there.url}, there, ""},
		"EnvOverProfile":  {map[string]string{"ATTUNE_URL": there.url}, []string{"--profile", "here"}, there, ""},
		"SameServer":      {nil, []string{"--url", here.url + "/"}, here, "Bearer token-here"},
		"Token":           {map[string]string{"ATTUNE_TOKEN": "mine"}, nil, here, "Bearer mine"},
		"TokenElsewhere":  {map[string]string{"ATTUNE_TOKEN": "mine"}, []string{"--url", there.url}, there, "Bearer mine"},
		"TokenAndProfile": {map[string]string{"ATTUNE_TOKEN": "mine"}, []string{"--profile", "there"}, there, "Bearer mine"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"XDG_CONFIG_HOME": dir}
			maps.Copy(env, tt.env)
			tt.want.mu.Lock()
			tt.want.tokens = nil
			tt.want.mu.Unlock()
			got := command{env: env}.run(t, append(tt.args, "execution", "list")...)
			if got.code != 0 {
				t.Fatalf("%+v", got)
			}
			tt.want.mu.Lock()
			defer tt.want.mu.Unlock()
			if len(tt.want.tokens) != 1 || tt.want.tokens[0] != tt.token {
				t.Errorf("the server was shown %q, want %q", tt.want.tokens, tt.token)
			}
		})
	}
}

// ~/.config is where profiles are without XDG_CONFIG_HOME.
func TestRun_ProfilesAtHome(t *testing.T) {
	s := newServer(t)
	home := t.TempDir()
	dir := config(t, "profiles: {docker: {url: "+s.url+"}}")
	if err := os.Rename(dir, filepath.Join(home, ".config")); err != nil {
		t.Fatal(err)
	}
	got := command{env: map[string]string{"HOME": home}}.run(t, "--profile", "docker", "execution", "list")
	if got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRun_BadProfiles(t *testing.T) {
	tests := map[string]struct {
		config string
		want   []string
	}{
		"Unknown":        {"profiles: {docker: {url: http://localhost:1}, prod: {url: http://localhost:2}}", []string{`"nope"`, "config.yaml has docker, prod"}},
		"UnknownNone":    {"", []string{`"nope"`, "no profiles"}},
		"UnknownKey":     {"profiles:\n  nope:\n    urll: http://localhost:1\n", []string{"line 3", `"urll"`, "profiles.nope", "token or url"}},
		"UnknownTopKey":  {"profile: {}\n", []string{`"profile"`, "default or profiles"}},
		"Both":           {"a: 1\nb: 2\n", []string{`"a"`, `"b"`}},
		"NoMapping":      {"profiles: [nope]\n", []string{"line 1", "profiles", "mapping"}},
		"NoYAML":         {"profiles: {", []string{"config.yaml"}},
		"TokenNoString":  {"profiles: {nope: {url: http://localhost:1, token: [a]}}", []string{"config.yaml"}},
		"NothingButText": {"hello", []string{"the file", "mapping"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := command{env: map[string]string{"XDG_CONFIG_HOME": config(t, tt.config)}}.run(t, "--profile", "nope", "execution", "list")
			if got.code != cli.ExitUsage {
				t.Errorf("%+v", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("%q does not name %s", got.stderr, want)
				}
			}
		})
	}
	t.Run("NoFile", func(t *testing.T) {
		got := command{env: map[string]string{"XDG_CONFIG_HOME": t.TempDir()}}.run(t, "--profile", "nope", "execution", "list")
		if got.code != cli.ExitUsage || !strings.Contains(got.stderr, "there is no ") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("NoHome", func(t *testing.T) {
		got := command{}.run(t, "--profile", "nope", "execution", "list")
		if got.code != cli.ExitUsage || !strings.Contains(got.stderr, "XDG_CONFIG_HOME") {
			t.Errorf("%+v", got)
		}
	})
}
