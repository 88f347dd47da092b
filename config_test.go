package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestLoadConfig_Defaults(t *testing.T) {
	cfg, err := loadConfig(map[string]string{"DATABASE_URL": "postgres://db/x"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DatabaseURL != "postgres://db/x" || cfg.CanaryInterval != 5*time.Second || len(cfg.Channels) != 16 || cfg.ListenAddr != "127.0.0.1:8081" {
		t.Errorf("unexpected defaults: %+v", cfg)
	}
	cfg, err = loadConfig(map[string]string{"DATABASE_URL": "postgres://other", "ATTUNE_DATABASE_URL": "postgres://mine", "ATTUNE_CHANNELS": "a,b"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DatabaseURL != "postgres://mine" || len(cfg.Channels) != 2 {
		t.Errorf("unexpected: %+v", cfg)
	}
}

// Every mistake is named, in one error, with its setting and what is accepted.
func TestLoadConfig_NamesEveryMistake(t *testing.T) {
	_, err := loadConfig(map[string]string{
		"ATTUNE_LISTEN_ADDR": "8081", "ATTUNE_CANARY_INTERVAL": "fast", "ATTUNE_QUEUE_SIZE": "0", "ATTUNE_WINDOW_SIZE": "many",
		"ATTUNE_DRAIN": "-1s", "ATTUNE_RUNNER": "perhaps", "ATTUNE_LOG_LEVEL": "loud", "ATTUNE_LOG_FORMAT": "xml",
		"ATTUNE_CHANNELS": "a,," + strings.Repeat("x", 64), "ATTUNE_ALLOWED_ORIGINS": "app.example.com", "ATTUNE_SCHEMA": "",
		"ATTUNE_METRICS_ADDR": "nowhere", "ATTUNE_LISTEN_URL": "postgres://direct", "ATTUNE_WORKERS": "-1", "ATTUNE_INSECURE": "maybe",
		"ATTUNE_MAX_CONNECTIONS_PER_IDENTITY": "-1", "ATTUNE_REQUEST_RATE": "NaN", "ATTUNE_REQUEST_RATE_PER_ADDRESS": "fast", "ATTUNE_SUBSCRIBE_RATE": "-1",
		"ATTUNE_TRUSTED_PROXIES": "10.0.0.0/8,proxy", "ATTUNE_TLS_CERT_FILE": "cert.pem", "ATTUNE_JWT_SECRET": "weak", "ATTUNE_JWT_LEEWAY": "-1s",
		"ATTUNE_JWT_ALGORITHM": "none",
	})
	if err == nil {
		t.Fatal("want an error")
	}
	for _, name := range []string{
		"LISTEN_ADDR", "CANARY_INTERVAL", "QUEUE_SIZE", "WINDOW_SIZE", "DRAIN", "RUNNER", "LOG_LEVEL", "LOG_FORMAT",
		"CHANNELS", "ALLOWED_ORIGINS", "METRICS_ADDR", "LISTEN_URL", "WORKERS", "INSECURE",
		"MAX_CONNECTIONS_PER_IDENTITY", "REQUEST_RATE", "REQUEST_RATE_PER_ADDRESS", "SUBSCRIBE_RATE", "TRUSTED_PROXIES", "TLS_CERT_FILE", "JWT_SECRET", "JWT_LEEWAY",
	} {
		if n := strings.Count(err.Error(), "\n  ATTUNE_"+name+": "); n != 1 {
			t.Errorf("ATTUNE_%s is named %d times in:\n%v", name, n, err)
		}
	}
}

func TestLoadConfig_RefusesToBeOpen(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:0": true, "127.8.9.1:80": true, "[::1]:80": true, "localhost:80": true,
		"0.0.0.0:80": false, ":80": false, "[::]:80": false, "10.0.0.1:80": false, "example.com:80": false,
	} {
		_, err := loadConfig(map[string]string{"ATTUNE_LISTEN_ADDR": addr})
		if (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
		if err != nil && !strings.Contains(err.Error(), "ATTUNE_INSECURE") {
			t.Errorf("%s: the error does not say what to do: %v", addr, err)
		}
		if _, err := loadConfig(map[string]string{"ATTUNE_LISTEN_ADDR": addr, "ATTUNE_INSECURE": "true"}); err != nil {
			t.Errorf("%s, insecure: %v", addr, err)
		}
		if _, err := loadConfig(map[string]string{"ATTUNE_LISTEN_ADDR": addr, "ATTUNE_JWT_SECRET": "nZ7wq2LrV0xT5bKcE9sYhG3uJdM8aPf1"}); err != nil {
			t.Errorf("%s, with authentication: %v", addr, err)
		}
	}
}

// The README's table is made from the tags of Config; `go test -run TestReadme
// -update .` writes it anew.
func TestReadme_ListsEverySetting(t *testing.T) {
	const begin, end = "<!-- config -->\n", "<!-- /config -->"
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(readme), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md lacks the markers %q and %q", begin, end)
	}
	var want strings.Builder
	want.WriteString("| setting | default | |\n|---|---|---|\n")
	for _, s := range settings() {
		fallback := ""
		if s.fallback != "" {
			fallback = "`" + s.fallback + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", s.name, fallback, s.description)
	}
	if table == want.String() {
		return
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(head+begin+want.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("README.md is not up to date; run: go test -run TestReadme -update .\nwant:\n%s", want.String())
}

func TestSettings_AreInHelp(t *testing.T) {
	help := settingsHelp()
	for _, s := range settings() {
		if !strings.Contains(help, s.name+" ") || s.description == "" {
			t.Errorf("%s is not explained", s.name)
		}
	}
}

// A connection string is a setting like any other; what is in it is not told.
func TestLoadConfig_URLs(t *testing.T) {
	_, err := loadConfig(map[string]string{
		"ATTUNE_DATABASE_URL": "postgres://u:secret-word@h:99999/d", "ATTUNE_LISTEN_URL": "://secret-word", "ATTUNE_QUEUE_SIZE": "-1",
	})
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{"\n  ATTUNE_DATABASE_URL: ", "\n  ATTUNE_LISTEN_URL: ", "\n  ATTUNE_QUEUE_SIZE: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "secret-word") {
		t.Errorf("the password is told: %v", err)
	}
}
