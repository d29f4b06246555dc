package admin

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/policy"
	"attache/secret"
)

// ExplainRequest is a request that somebody might make through the proxy.
type ExplainRequest struct {
	Integration string `json:"integration" doc:"Who would make it." example:"support-bot"`
	Connection  string `json:"connection,omitempty" doc:"The connection that the client would name; absent: none." example:"tickets"`
	Method      string `json:"method,omitempty" doc:"Absent: GET. CONNECT is for what happens when the tunnel opens." example:"GET"`
	URL         string `json:"url" doc:"Where to. Only scheme, host and port matter." example:"https://api.example.com/tickets"`
}

// Explanation is what would happen to the request, and why.
type Explanation struct {
	Target     string             `json:"target" doc:"The origin that the request is for, in canonical form." example:"https://api.example.com"`
	Action     attache.Action     `json:"action" enum:"inject,tunnel,forward,deny" doc:"What happens."`
	Connection string             `json:"connection,omitempty" doc:"The connection whose credential is sent." example:"tickets"`
	Header     string             `json:"header,omitempty" doc:"The header that carries it." example:"Authorization"`
	Value      secret.Text        `json:"value,omitzero" doc:"Its value: always [redacted]."`
	Code       attache.Code       `json:"code,omitempty" doc:"With deny: the code of the proxy's answer." example:"ambiguous_connection"`
	Reason     string             `json:"reason" doc:"Why, in a sentence."`
	Candidates []policy.Candidate `json:"candidates" nullable:"false" doc:"The connections that were considered, and what became of each."`
	Strips     []string           `json:"strips" nullable:"false" doc:"With inject: the headers that are removed from the client's request, beside hop-by-hop ones."`
}

func (a *API) explain(api huma.API) {
	register(a, api, route{
		method: http.MethodPost, path: "/explain", id: "explain", tag: "observation", role: attache.RoleViewer,
		summary: "Explain what would happen",
		text:    "Makes the decision that the proxy would make, by the same code, and says why. Nothing is sent.",
		errors:  []int{http.StatusNotFound},
	}, a.explainRequest)
}

// decide is what the proxy does with a request over https: where its tunnel is
// not decrypted or is denied, the request itself is never seen.
func decide(ix *policy.Index, q policy.Query) (attache.Decision, []policy.Candidate) {
	if q.Target.Scheme == "https" {
		tunnel := q
		tunnel.Method = http.MethodConnect
		if d, candidates := ix.Explain(tunnel); d.Action != attache.Inject {
			return d, candidates
		}
	}
	return ix.Explain(q)
}

func (a *API) explainRequest(ctx context.Context, in *WithBody[ExplainRequest]) (*Answer[Explanation], error) {
	ask := in.Body.value
	if _, err := policy.ParseName("integration", ask.Integration); err != nil {
		return nil, err
	}
	if ask.Connection != "" {
		if _, err := policy.ParseName("connection", ask.Connection); err != nil {
			return nil, err
		}
	}
	target, err := targetOf(ask.URL)
	if err != nil {
		return nil, err
	}
	if _, err := a.showIntegration(ctx, &IntegrationPath{ask.Integration}); err != nil {
		return nil, err
	}
	index := a.Index.Current()
	d, candidates := decide(index, policy.Query{
		Integration: ask.Integration, Connection: ask.Connection, Target: target,
		Method: strings.ToUpper(cmp.Or(ask.Method, http.MethodGet)), Unmatched: a.Unmatched,
	})
	out := Explanation{
		Target: target.String(), Action: d.Action, Header: d.Header, Value: d.Value, Code: d.Code, Reason: d.Reason,
		Candidates: append([]policy.Candidate{}, candidates...), Strips: []string{},
	}
	if d.Connection != nil {
		out.Connection = d.Connection.Name
	}
	if d.Action == attache.Inject && d.Connection != nil {
		out.Strips = stripped(index, d.Connection)
		a.withToken(&out, d.Connection)
	}
	return answer(out), nil
}

// withToken adds what an OAuth connection's token makes of it: the request is
// denied where there is none to be had.
func (a *API) withToken(out *Explanation, c *attache.Connection) {
	if c.Type != attache.OAuth || a.OAuth.Keeper == nil {
		return
	}
	grant, err := a.OAuth.Keeper.Look(c)
	if err != nil {
		out.Action, out.Code, out.Header, out.Strips = attache.Deny, attache.CodeCredentialUnavailable, "", []string{}
		out.Reason += "; but nothing is sent: " + err.Error()
		for i := range out.Candidates {
			out.Candidates[i].Chosen = false
		}
		return
	}
	with := *c
	with.Grant = &grant
	if _, out.Value = with.Header(); out.Value.IsZero() {
		out.Reason += ", and the request waits for a token"
	}
}

// targetOf is the target of a URL. Its path, query and user information are
// nobody's business here, and the last is refused like everywhere.
func targetOf(raw string) (attache.Target, error) {
	wrong := &attache.FieldError{Field: "url", Rule: "is not an http or https URL", Remedy: "write it as https://host/path"}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return attache.Target{}, wrong
	}
	if u.User != nil {
		wrong.Rule, wrong.Remedy = "has user information", "leave it out"
		return attache.Target{}, wrong
	}
	t, err := policy.ParseTarget(u.Scheme, u.Host)
	for _, e := range fieldErrors(err) {
		return attache.Target{}, &attache.FieldError{Field: "url", Rule: e.Rule, Remedy: e.Remedy}
	}
	return t, err
}

// stripped lists what the proxy takes out of a request that gets a connection's
// credential: the headers known for credentials, those of its integration's
// connections, and cookies where it says so.
func stripped(index *policy.Index, chosen *attache.Connection) []string {
	headers := index.Strips(chosen.Integration).Headers()
	if chosen.StripCookies {
		headers = append(headers, "Cookie")
		slices.Sort(headers)
	}
	return headers
}
