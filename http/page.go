package http

import (
	"io/fs"
	"net/http"
)

// pageHandler serves the page at / and its files, under a policy that lets it load
// nothing but itself.
func pageHandler(page fs.FS) http.Handler {
	files := http.FileServerFS(page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}

// pageFiles lists the page's files, each of which is a route.
func pageFiles(page fs.FS) (names []string) {
	_ = fs.WalkDir(page, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	return names
}
