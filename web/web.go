// Package web holds the start page, embedded in the binary: live executions in a
// browser, or the raw notifications where the database has no executions.
//
// The page is plain HTML, CSS and one ES module. It loads nothing from elsewhere and
// holds no inline script or style, so it works under the Content-Security-Policy
// "default-src 'self'".
package web

import (
	"embed"
	"io/fs"
)

//go:embed static
var static embed.FS

// Files returns the page and what it loads: index.html, app.js, style.css,
// icon.svg. Paths within the page are relative, so it may be served under any
// prefix that /executions and /events share.
func Files() fs.FS {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // only for an invalid path, and this one is constant
	}
	return files
}
