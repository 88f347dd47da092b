// Package web holds the dashboard, embedded in the binary, and attune.js, the client
// for browsers.
//
// It is plain HTML, CSS and ES modules, without a build step: app.js shows what
// store.js has, which is a copy of what feed.js, with its parts below feed/, holds once
// per browser. It loads nothing from elsewhere and has no inline script or style, so it
// works under the Content-Security-Policy "default-src 'self'".
package web

import (
	"embed"
	"io/fs"
)

//go:embed static
var static embed.FS

// Files returns the page, index.html, and what it loads. The page names its files below
// static/, which whoever serves it replaces by where they are. All paths are relative,
// so it may be served under any prefix that /executions and /events share.
func Files() fs.FS {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // only for an invalid path, and this one is constant
	}
	return files
}
