package temps

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
)

// hashed is a name like index-DiwrgTda.js: its hash has 8 characters or more.
var hashed = regexp.MustCompile(`^.+[-.]([A-Za-z0-9_]{8,})\.[^.]+$`)

// pages serves files below /ui/, with the cache rules of a built single-page application. They ask for no secret: they are the
// same for everybody.
type pages struct{ files fs.FS }

func newPages(files fs.FS) (*pages, error) {
	if _, err := fs.Stat(files, "index.html"); err != nil {
		return nil, errors.New("the page has no index.html; build it first")
	}
	return &pages{files}, nil
}

// ServeHTTP answers a request whose path is /ui or below.
func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeProblem(w, http.StatusMethodNotAllowed, "pages are only read")
		return
	}
	if r.URL.Path == "/ui" {
		// Relative, so that it holds behind any prefix.
		w.Header().Set("Location", "ui/")
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	name, data, ok := p.find(strings.Trim(strings.TrimPrefix(r.URL.Path, "/ui/"), "/"))
	if !ok {
		writeProblem(w, http.StatusNotFound, "there is no such file")
		return
	}
	digest := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(digest[:8]) + `"`
	header := w.Header()
	header.Set("Cache-Control", cacheRule(name))
	header.Set("ETag", tag)
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", contentType(name))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(data)
	}
}

// find is the file of a path; for a path without an extension, which is a page of the application, its index.
func (p *pages) find(name string) (string, []byte, bool) {
	// fs.FS refuses names that lead out of it.
	if data, err := fs.ReadFile(p.files, name); err == nil {
		return name, data, true
	}
	if path.Ext(name) != "" {
		return "", nil, false
	}
	data, err := fs.ReadFile(p.files, "index.html")
	return "index.html", data, err == nil
}

// cacheRule keeps files for ever whose name holds a hash of their content; others are asked for again each time.
func cacheRule(name string) string {
	found := hashed.FindStringSubmatch(path.Base(name))
	if found != nil && strings.ContainsAny(found[1], "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		return "public, max-age=31536000, immutable"
	}
	return "no-cache"
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8" // Whatever the system's table says: module scripts need it.
	case ".webmanifest":
		return "application/manifest+json"
	case ".woff2":
		return "font/woff2"
	}
	if known := mime.TypeByExtension(path.Ext(name)); known != "" {
		return known
	}
	return "application/octet-stream"
}

func isBelow(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
