package admin

import (
	"context"
	"errors"
	"net/http"

	"attache"
	"attache/oauth"
)

// callbackData is what became of an authorization.
type callbackData struct {
	Integration, Connection string
	Failed                  bool
	Code, Advice            string // with Failed; empty: see the log
}

// callback is where a provider sends a browser back to. It needs no sign-in: a
// person who authorizes need not be an administrator, nor be at the browser that
// began it. What lets an answer in is its state, which has 256 random bits, is
// good for one use within ten minutes, and was given to somebody who had to show
// an admin token. That is worth as long as the token is, so it has to be valid
// still. A state that was begun with a loopback address is not let in here.
func (u *ui) callback(w http.ResponseWriter, r *http.Request) {
	// The address holds the code.
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet {
		// HEAD is what looks at links and follows none.
		u.fail(w, r, fail(attache.CodeMethodNotAllowed, "Its method is GET.").with("Allow", http.MethodGet))
		return
	}
	flows, err := u.flows()
	if err != nil {
		u.fail(w, r, err)
		return
	}
	state := r.URL.Query().Get("state")
	start, err := flows.Started(state)
	if err == nil && (start.RedirectURL == "" || start.RedirectURL != u.OAuth.CallbackURL) {
		err = oauth.ErrUnknownFlow
	}
	if err == nil {
		var may bool
		if may, err = u.stillMay(r.Context(), start.By, attache.RoleOperator); err == nil && !may {
			err = oauth.ErrUnknownFlow
		}
	}
	if err != nil {
		u.fail(w, r, err)
		return
	}
	_, err = flows.Finish(r.Context(), start.By, state, "?"+r.URL.RawQuery)
	u.write(w, r, u.finished(r.Context(), start, err))
}

// finished is the page about the end of an authorization.
func (u *ui) finished(ctx context.Context, s oauth.Start, err error) page {
	data := callbackData{Integration: s.Integration, Connection: s.Connection}
	at := base + "/integrations/" + s.Integration + "/connections/oauth/" + s.Connection
	if err == nil {
		u.Logger.InfoContext(ctx, "admin change", "operation", "finish-authorization", "at", at, "by", s.By)
		return page{name: "callback", Title: "Authorized", Data: data}
	}
	u.Logger.WarnContext(ctx, "authorization failed", "at", at, "by", s.By, "error", err)
	data.Failed = true
	if e := (*oauth.Error)(nil); errors.As(err, &e) {
		data.Code, data.Advice = e.Code, oauth.Advice(e.Code)
	}
	return page{name: "callback", Title: "Not authorized", Status: failureOf(err).Status, Data: data}
}
