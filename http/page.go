package http

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

// page is the dashboard and what it loads.
//
// Its files lie below assets/<version>/, where a browser may keep them for ever: the
// version is that of all of them, and only index.html, which names it, is asked for
// again. attune.js has a path of its own besides, for the pages of others.
type page struct {
	version string
	files   map[string]pageFile // by path
}

// pageFile is a file as it is served.
type pageFile struct {
	content     []byte
	contentType string
	etag        string
}

const (
	// pageIndex is the dashboard itself; it names what it loads below pageFolder.
	pageIndex  = "index.html"
	pageFolder = "static/"
	// pageClient is the client for browsers.
	pageClient = "attune.js"
)

// newPage reads the files. They are part of the program: an error is a mistake in it.
func newPage(files fs.FS) *page {
	p := &page{files: make(map[string]pageFile)}
	all := sha256.New()
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		contentType := mime.TypeByExtension(path.Ext(name))
		if strings.HasSuffix(name, ".js") {
			contentType = "text/javascript; charset=utf-8" // whatever the system thinks: a module must have it
		}
		_, _ = all.Write([]byte(name))
		_, _ = all.Write(content)
		p.files[name] = pageFile{content: content, contentType: contentType, etag: etagOf(content)}
		return nil
	})
	if err != nil {
		panic(err)
	}
	p.version = hex.EncodeToString(all.Sum(nil)[:8])
	if index, ok := p.files[pageIndex]; ok {
		index.content = bytes.ReplaceAll(index.content, []byte(`"`+pageFolder), []byte(`"assets/`+p.version+"/"))
		index.etag = etagOf(index.content)
		p.files[pageIndex] = index
	}
	return p
}

// serve returns the handler of one file, which must be asked for again each time.
func (p *page) serve(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { p.write(w, r, name, "no-cache") }
}

// serveAsset serves /assets/{version}/*. Another version, of a page that was loaded
// before the server was replaced or of one that another instance gave, gets what
// there is.
func (s *Server) serveAsset(p *page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, keep := chi.URLParam(r, "*"), "no-cache"
		if _, ok := p.files[name]; !ok || name == pageIndex {
			s.notFound(w, r)
			return
		}
		if chi.URLParam(r, "version") == p.version {
			keep = "public, max-age=31536000, immutable"
		}
		p.write(w, r, name, keep)
	}
}

// write writes a file, under a policy that lets the page load nothing but itself.
func (p *page) write(w http.ResponseWriter, r *http.Request, name, keep string) {
	file := p.files[name]
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", keep)
	header.Set("Content-Type", file.contentType)
	header.Set("ETag", file.etag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(file.content))
}
