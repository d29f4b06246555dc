package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"time"

	"attache"
)

// The web UI looks at what the REST API serves, by the same methods, and changes
// nothing. Its pages are made here, whole, and need no script; the one script
// that is loaded keeps the list of events up to date. Nothing comes from another
// host, and no secret is ever passed to a template.

//go:embed ui/templates/*.html ui/assets
var uiFiles embed.FS

// uiPolicy is the pages' Content-Security-Policy: nothing but our own files, no
// script or style inside a page. Pico draws its icons with data: images.
const uiPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxFormBytes bounds a form.
const maxFormBytes = 64 << 10

// ui serves the pages.
type ui struct {
	*API
	mux      *http.ServeMux
	pages    map[string]*template.Template // by the name of the file, without .html
	sessions sessions
}

// page is what a page shows.
type page struct {
	name   string // of its template
	Title  string
	Status int // zero: 200
	Data   any // what the template knows

	// Set when it is written.
	Path string // of the request, to mark the page in the navigation
	Role attache.Role
}

// shower makes a page from a request. Its errors become pages in [ui.fail].
type shower func(*http.Request) (page, error)

func newUI(a *API) (*ui, error) {
	u := &ui{API: a, mux: http.NewServeMux(), pages: map[string]*template.Template{}}
	layout, err := template.New("").Funcs(words).ParseFS(uiFiles, "ui/templates/layout.html", "ui/templates/rows.html")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"sign-in", "overview", "connections", "events", "explain", "callback", "failure"} {
		t, err := layout.Clone()
		if err == nil {
			u.pages[name], err = t.ParseFS(uiFiles, "ui/templates/"+name+".html")
		}
		if err != nil {
			return nil, err
		}
	}
	return u, u.routes()
}

func (u *ui) routes() error {
	for pattern, show := range map[string]shower{
		"GET /{$}":         u.overview,
		"GET /connections": u.showConnections,
		"GET /events":      u.showEvents,
		"GET /explain":     u.askExplain,
		"POST /explain":    u.showExplanation,
	} {
		u.mux.HandleFunc(pattern, u.signedIn(show))
	}
	u.mux.HandleFunc("GET /events/stream", u.streamEvents)
	u.mux.HandleFunc("GET /sign-in", u.askToken)
	u.mux.HandleFunc("POST /sign-in", u.signIn)
	u.mux.HandleFunc("POST /sign-out", u.signOut)
	u.mux.HandleFunc("GET /ca.pem", u.sendCA)
	u.mux.HandleFunc("/oauth/callback", u.callback) // with GET alone: HEAD is not GET here
	return u.assets()
}

// assets serves the files that pages are made of. They are nobody's secret, and
// the page for signing in needs them.
func (u *ui) assets() error {
	files, err := fs.Sub(uiFiles, "ui/assets")
	if err != nil {
		return err
	}
	all, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	for _, file := range all {
		name := file.Name()
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		u.mux.HandleFunc("GET /assets/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache") // ask whether it has changed
			w.Header().Set("ETag", tag)
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
		})
	}
	return nil
}

// serve answers what is not for the API.
func (u *ui) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", uiPolicy)
	// With no-referrer a browser hides the origin of our own forms from us as well.
	w.Header().Set("Referrer-Policy", "same-origin")
	if f := u.checkOrigin(r); f != nil {
		u.fail(w, r, f)
		return
	}
	if f := unrouted(u.mux, r, "The navigation leads to those that there are; the API is below "+base+"."); f != nil {
		u.fail(w, r, f)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); errors.As(err, new(*http.MaxBytesError)) {
		u.fail(w, r, fail(CodeTooLarge, "A form may have 64 KiB."))
		return
	}
	u.mux.ServeHTTP(w, r)
}

// signedIn shows a page to those who are signed in, whatever their role, and the
// page for signing in to all others.
func (u *ui) signedIn(show shower) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := u.visitor(r)
		if err != nil {
			u.fail(w, r, err)
			return
		}
		if c == (caller{}) {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		u.sessions.touch(sessionID(r), time.Now())
		r = r.WithContext(withCaller(r.Context(), c))
		p, err := show(r)
		if err != nil {
			u.fail(w, r, err)
			return
		}
		u.write(w, r, p)
	}
}

// write answers with a page.
func (u *ui) write(w http.ResponseWriter, r *http.Request, p page) {
	c, _ := r.Context().Value(callerKey{}).(caller)
	p.Path, p.Role = r.URL.Path, c.role
	var out bytes.Buffer
	if err := u.pages[p.name].ExecuteTemplate(&out, "layout", p); err != nil {
		f := failureOf(fmt.Errorf("page %s: %w", p.name, err))
		f.log(r.Context(), u.Logger)
		f.write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	_, _ = out.WriteTo(w) // the client may have gone
}

// fail answers with a page that says what went wrong and what to do.
func (u *ui) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err)
	p := page{name: "failure", Title: f.Title}
	if f.Code == CodeUnknownRoute {
		p.Title = "There is no such page"
	}
	u.failOn(w, r, f, p)
}

// failOn answers with a page that shows a failure.
func (u *ui) failOn(w http.ResponseWriter, r *http.Request, f *failure, p page) {
	f.log(r.Context(), u.Logger)
	maps.Copy(w.Header(), f.header)
	p.Status, p.Data = f.Status, f.Problem
	u.write(w, r, p)
}

// link is a path with a query. Empty parameters are left out.
func link(path string, params ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		if params[i+1] != "" {
			query.Set(params[i], params[i+1])
		}
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}
