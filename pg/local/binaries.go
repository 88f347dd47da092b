package local

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// binaries is an installed PostgreSQL.
type binaries struct {
	prefix  string // the directory above bin
	version string // such as 15.13
}

// installed returns the PostgreSQL installations of this machine, those to be
// preferred first.
func installed() []binaries {
	var dirs []string
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",          // Debian
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew
		"/opt/homebrew/opt/postgresql/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		// The only error is that of a malformed pattern.
		found, _ := filepath.Glob(pattern)
		slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
		dirs = append(dirs, found...)
	}
	var all []binaries
	for _, dir := range dirs {
		if b, ok := inspect(dir); ok {
			all = append(all, b)
		}
	}
	return all
}

// inspect tells whether dir is a bin directory with all that it takes.
func inspect(dir string) (binaries, bool) {
	if filepath.Base(dir) != "bin" { // the library adds it
		return binaries{}, false
	}
	b := binaries{prefix: filepath.Dir(dir)}
	if !b.complete() {
		return binaries{}, false
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output() //nolint:gosec,noctx // found above; returns at once
	if err != nil {
		return binaries{}, false
	}
	// postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)
	b.version = regexp.MustCompile(`\d+(\.\d+)*`).FindString(string(out))
	return b, b.version != ""
}

// complete tells whether the programs that it takes are there, for this user
// to execute.
func (b binaries) complete() bool {
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(b.prefix, "bin", name)); err != nil {
			return false
		}
	}
	return true
}

// number returns the first number in a path's directory name, so that 15
// sorts after 9.6.
func number(path string) float64 {
	found := regexp.MustCompile(`\d+(\.\d+)?`).FindString(path)
	n, _ := strconv.ParseFloat(found, 64) // none is 0
	return n
}

// choose returns the installation to use for data of the given major version,
// or for new data when that is empty, and false when there is none.
func choose(all []binaries, major string) (binaries, bool) {
	for _, b := range all {
		if ofMajor(b.version, major) {
			return b, true
		}
	}
	return binaries{}, false
}

// ofMajor tells whether a PostgreSQL of that version can work on data of the
// given major version. New data, which has none, takes any.
func ofMajor(version, major string) bool {
	return major == "" || version == major || strings.HasPrefix(version, major+".")
}

// downloadable returns the version to download for data of the given major
// version, or for new data when that is empty.
func downloadable(major string) (string, error) {
	known := []embedded.PostgresVersion{
		embedded.V18, embedded.V17, embedded.V16, embedded.V15, embedded.V14,
		embedded.V13, embedded.V12, embedded.V11, embedded.V10, embedded.V9,
	}
	for _, v := range known {
		if ofMajor(string(v), major) {
			return string(v), nil
		}
	}
	return "", fmt.Errorf("PostgreSQL %s can not be downloaded either", major)
}

// names lists installations for an error message.
func names(all []binaries) string {
	if len(all) == 0 {
		return "none"
	}
	var list []string
	for _, b := range all {
		list = append(list, fmt.Sprintf("%s in %s", b.version, filepath.Join(b.prefix, "bin")))
	}
	return strings.Join(list, ", ")
}

// exists tells whether there is something at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
