package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"attache"
)

// overviewData is what the first page shows.
type overviewData struct {
	Status
	CA
	Proxy string // host:port, as this visitor reaches the proxy; empty: it does not listen
	// CallbackURL is for OAuth providers; empty: there is none.
	CallbackURL string
}

func (u *ui) overview(r *http.Request) (page, error) {
	status, err := u.showStatus(r.Context(), nil)
	if err != nil {
		return page{}, err
	}
	ca, err := u.showCA(r.Context())
	if err != nil {
		return page{}, err
	}
	return page{name: "overview", Title: "Overview", Data: overviewData{
		status.Body, ca.Body, reachedFrom(r, status.Body.ProxyAddress), u.OAuth.CallbackURL,
	}}, nil
}

// reachedFrom is an address that the server listens on as the visitor reaches
// it: where that is every interface, by the host that leads to this page.
func reachedFrom(r *http.Request, listening string) string {
	at, err := netip.ParseAddrPort(listening)
	if err != nil || !at.Addr().IsUnspecified() {
		return listening
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(int(at.Port())))
}

// sendCA sends what clients have to trust, to anybody: it is public.
func (u *ui) sendCA(w http.ResponseWriter, r *http.Request) {
	ca, err := u.showCA(r.Context())
	if err != nil {
		u.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="attache-ca.pem"`)
	_, _ = w.Write([]byte(ca.Body.PEM)) // the client may have gone
}

// connectionsPerPage is how many connections a page shows.
const connectionsPerPage = 50

// connectionsData is a page of an integration's connections.
type connectionsData struct {
	Integrations []attache.Integration
	Integration  string // the one that is shown; empty where there is none
	Groups       []connectionGroup
	After        string // the cursor of this page; empty on the first
	Meta         Meta
}

// connectionGroup are the connections of one type.
type connectionGroup struct {
	Type    attache.ConnectionType
	Secrets []string // the fields that are kept secret; none where rows tell of a grant
	Rows    []connectionRow
}

type connectionRow struct {
	ConnectionFields
	Header string
	OAuth  *OAuthConnection // of that type: how it stands
}

func (u *ui) showConnections(r *http.Request) (page, error) {
	all, err := u.Store.Integrations(r.Context())
	if err != nil {
		return page{}, err
	}
	query := r.URL.Query()
	data := connectionsData{Integrations: all, Integration: query.Get("integration"), After: query.Get("after")}
	if data.Integration == "" && len(all) > 0 {
		data.Integration = all[0].Name
	}
	p := page{name: "connections", Title: "Connections"}
	if data.Integration != "" {
		ask := ConnectionsPath{IntegrationPath{data.Integration}, Page{connectionsPerPage, data.After}}
		if err := ask.pathError(); err != nil {
			return page{}, err
		}
		found, meta, err := u.page(r.Context(), &ask, "")
		if err != nil {
			return page{}, err
		}
		data.Groups, data.Meta = grouped(found), meta
	}
	p.Data = data
	return p, nil
}

// grouped are connections by type, without the types that none has.
func grouped(all []attache.Connection) []connectionGroup {
	groups := []connectionGroup{
		{Type: attache.APIKey, Secrets: []string{"api_key"}},
		{Type: attache.BasicAuth, Secrets: []string{"username", "password"}},
		{Type: attache.BearerToken, Secrets: []string{"token"}},
		{Type: attache.OAuth},
	}
	for _, c := range all {
		header, _ := c.Header()
		row := connectionRow{ConnectionFields: showFields(c), Header: header}
		if c.Type == attache.OAuth {
			stands := showOAuth(c)
			row.OAuth = &stands
		}
		for i := range groups {
			if groups[i].Type == c.Type {
				groups[i].Rows = append(groups[i].Rows, row)
			}
		}
	}
	return slices.DeleteFunc(groups, func(g connectionGroup) bool { return len(g.Rows) == 0 })
}

// explainData is a question, and its answer where there is one.
type explainData struct {
	Integrations []attache.Integration
	Methods      []string
	Ask          ExplainRequest
	Wrong        []attache.ProblemField // what is wrong with the question
	Answer       *Explanation
}

func (u *ui) askExplain(r *http.Request) (page, error) {
	return u.explainPage(r, explainData{Ask: ExplainRequest{Integration: r.URL.Query().Get("integration")}})
}

// showExplanation answers by the code that answers the API's explain.
func (u *ui) showExplanation(r *http.Request) (page, error) {
	ask := ExplainRequest{
		Integration: r.PostFormValue("integration"), Connection: strings.TrimSpace(r.PostFormValue("connection")),
		Method: r.PostFormValue("method"), URL: strings.TrimSpace(r.PostFormValue("url")),
	}
	data := explainData{}
	answer, err := u.explainRequest(r.Context(), &WithBody[ExplainRequest]{body[ExplainRequest]{value: ask}})
	if err != nil {
		f := failureOf(err)
		if f.Code != CodeInvalid {
			return page{}, err
		}
		data.Wrong = f.Errors
	} else {
		data.Answer = &answer.Body
	}
	ask.URL = withoutSecrets(ask.URL)
	data.Ask = ask
	return u.explainPage(r, data)
}

func (u *ui) explainPage(r *http.Request, data explainData) (page, error) {
	all, err := u.Store.Integrations(r.Context())
	if err != nil {
		return page{}, err
	}
	data.Integrations = all
	data.Methods = []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodTrace, http.MethodConnect,
	}
	p := page{name: "explain", Title: "Explain", Data: data}
	if len(data.Wrong) > 0 {
		p.Status = http.StatusUnprocessableEntity
	}
	return p, nil
}

// fault is what is wrong with a field of a form; the zero Text says that nothing is.
type fault struct{ Field, Text string }

// Fault is what is wrong with a field of the question.
func (d explainData) Fault(field string) fault {
	for _, e := range d.Wrong {
		if e.Field == field {
			return fault{field, (&attache.FieldError{Field: field, Rule: e.Rule, Remedy: e.Remedy}).Error()}
		}
	}
	return fault{Field: field}
}

// withoutSecrets is a URL as the form shows it again: without query and
// fragment, and not at all where it has user information.
func withoutSecrets(url string) string {
	url, _, _ = strings.Cut(url, "#")
	url, _, _ = strings.Cut(url, "?")
	if strings.Contains(url, "@") {
		return ""
	}
	return url
}
