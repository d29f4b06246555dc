package oauth_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// landing is where providers send people back to. Nobody listens there: a
// person's browser stops in front of it.
const landing = "https://attache.example/oauth/callback"

// person uses a provider's pages as people do: follows links and redirects, fills
// in forms and sends them, and keeps cookies.
type person struct {
	browser *http.Client
	typed   map[string]string // into form fields, by their names
}

func newPerson(t *testing.T, s *authServer) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{
		browser: &http.Client{
			Transport: s.browser.Transport,
			Timeout:   patience,
			Jar:       jar,
			CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				if strings.HasPrefix(r.URL.String(), landing) {
					return http.ErrUseLastResponse
				}
				return nil
			},
		},
		typed: map[string]string{"login": "ada", "password": "correct horse"},
	}
}

// allows goes through every form that follows the address, and returns where the
// browser is when there is no more, or when it would open the callback.
func (p *person) allows(t *testing.T, address string) string {
	t.Helper()
	at := p.open(t, address)
	for range 10 {
		form := at.find(func(n *html.Node) bool { return n.Data == "form" })
		if form == nil {
			return at.url.String()
		}
		at = p.send(t, at, form)
	}
	t.Fatalf("the forms have no end; the last is at %s", at.url)
	return ""
}

// cancels takes the page's way out, and returns where that leads.
func (p *person) cancels(t *testing.T, address string) string {
	t.Helper()
	at := p.open(t, address)
	link := at.find(func(n *html.Node) bool {
		return n.Data == "a" && n.FirstChild != nil && strings.Contains(n.FirstChild.Data, "Cancel")
	})
	if link == nil {
		t.Fatalf("there is no way out of %s", at.url)
	}
	return p.open(t, at.resolve(t, attribute(link, "href"))).url.String()
}

func (p *person) open(t *testing.T, address string) webpage {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.do(t, r)
}

// send fills in a form and sends it.
func (p *person) send(t *testing.T, at webpage, form *html.Node) webpage {
	t.Helper()
	values := url.Values{}
	for n := range form.Descendants() {
		name := attribute(n, "name")
		if n.Type != html.ElementNode || n.Data != "input" || name == "" {
			continue
		}
		values.Set(name, attribute(n, "value"))
		if text, ok := p.typed[name]; ok {
			values.Set(name, text)
		}
	}
	action := at.resolve(t, attribute(form, "action"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, action, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(t, r)
}

func (p *person) do(t *testing.T, r *http.Request) webpage {
	t.Helper()
	resp, err := p.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if to, err := resp.Location(); err == nil {
		return webpage{url: to, root: new(html.Node)}
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s\n%s", r.Method, r.URL, resp.Status, text)
	}
	root, err := html.Parse(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return webpage{url: resp.Request.URL, root: root}
}

// webpage is what a browser shows. Of the callback it shows nothing.
type webpage struct {
	url  *url.URL
	root *html.Node
}

// find returns the first element of that kind, or nil.
func (p webpage) find(is func(*html.Node) bool) *html.Node {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && is(n) {
			return n
		}
	}
	return nil
}

func (p webpage) resolve(t *testing.T, reference string) string {
	t.Helper()
	to, err := p.url.Parse(reference)
	if err != nil {
		t.Fatal(err)
	}
	return to.String()
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
