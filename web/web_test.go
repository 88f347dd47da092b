package web_test

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"attune/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The page must be loaded at once. The plots, loaded when they are looked at, are not
// counted: activity.js and the library under vendor.
const maxBytes = 150_000

func TestFiles(t *testing.T) {
	var names []string
	size := 0
	for name, text := range files(t) {
		if !strings.HasPrefix(name, "vendor/") && name != "activity.js" {
			names = append(names, name)
			size += len(text)
		}
	}
	for _, name := range []string{"index.html", "app.js", "attune.js", "worker.js", "style.css", "icon.svg"} {
		if _, err := fs.Stat(web.Files(), name); err != nil {
			t.Errorf("%s is not embedded: %v", name, err)
		}
	}
	if size > maxBytes {
		t.Errorf("%v have %d bytes in all, want at most %d", names, size, maxBytes)
	}
}

// What "default-src 'self'" would block: a browser reports it in its console only.
func TestFiles_NothingThatThePolicyBlocks(t *testing.T) {
	blocked := map[string]*regexp.Regexp{
		"an inline script":          regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^<\s]`),
		"an event handler":          regexp.MustCompile(`(?i)<[^>]*\son[a-z]+\s*=`),
		"an inline style":           regexp.MustCompile(`(?i)<style|<[^>]*\sstyle\s*=`),
		"a style set as attribute":  regexp.MustCompile(`setAttribute\(\s*['"]style|cssText`),
		"code made from text":       regexp.MustCompile(`\beval\(|new Function\(|setTimeout\(\s*['"]`),
		"markup made from text":     regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write`),
		"something from elsewhere":  regexp.MustCompile(`(?i)(?:src|href|url\(|from|import|fetch\()\s*=?\s*['"(]?(?:https?:)?//`),
		"something within the text": regexp.MustCompile(`(?i)(?:src|href|url\()\s*=?\s*['"(]?(?:data|javascript):`),
	}
	for name, text := range files(t) {
		if strings.HasPrefix(name, "vendor/") {
			continue
		}
		for what, pattern := range blocked {
			if found := pattern.FindString(text); found != "" {
				t.Errorf("%s has %s: %q", name, what, found)
			}
		}
	}
}

// Whatever the page names is there, by a path relative to the page.
func TestFiles_References(t *testing.T) {
	reference := regexp.MustCompile(`(?:src|href)="static/([^"]+\.(?:js|css|svg))"`)
	got := map[string]bool{}
	all := files(t)
	for _, match := range reference.FindAllStringSubmatch(all["index.html"], -1) {
		_, err := fs.Stat(web.Files(), match[1])
		got[match[1]] = err == nil
	}
	for name, there := range got {
		if !there {
			t.Errorf("index.html names %s, which is not embedded", name)
		}
	}
	// What is imported is preloaded, however deep: otherwise the browser learns of it one file after the other.
	imports := regexp.MustCompile(`(?m)^import .* from '(\.[^']+)'`)
	for name := range got {
		for _, match := range imports.FindAllStringSubmatch(all[name], -1) {
			if imported := path.Join(path.Dir(name), match[1]); !got[imported] {
				t.Errorf("%s imports %s, which index.html does not preload", name, imported)
			}
		}
	}
}

// The script looks elements up by id and would only fail in a browser.
func TestFiles_ElementIDs(t *testing.T) {
	all := files(t)
	for _, match := range regexp.MustCompile(`element\('([^']+)'\)`).FindAllStringSubmatch(all["app.js"], -1) {
		if !strings.Contains(all["index.html"], `id="`+match[1]+`"`) {
			t.Errorf("app.js wants the element %q, which index.html lacks", match[1])
		}
	}
}

// files returns the text of every embedded file by its path.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(web.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(web.Files(), name)
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
