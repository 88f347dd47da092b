package local

import (
	"os"
	"path/filepath"
	"runtime"
)

// DefaultDataDir returns the data directory of the user that getenv, such as
// os.Getenv, describes. Root's is not below its home: the account that
// PostgreSQL runs as could not get there. It is empty when there is no home.
func DefaultDataDir(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/attune"
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "attune")
	}
	var base, below string
	switch runtime.GOOS {
	case "windows":
		base, below = getenv("LocalAppData"), "attune"
	case "darwin", "ios":
		base, below = getenv("HOME"), "Library/Application Support/attune"
	default:
		base, below = getenv("HOME"), ".local/share/attune"
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, filepath.FromSlash(below))
}
