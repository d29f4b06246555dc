package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"attache"
)

// problem is why the proxy answers in the upstream's place: a code, and a
// sentence for people that says what to do. It is what an error is here; the
// detail holds no secret, no internal address and no foreign error text.
type problem struct {
	code   attache.Code
	detail string
}

// response is the one place where an error becomes a response.
func (why problem) response(r *http.Request, id string) *http.Response {
	status := why.code.Status()
	body, err := json.Marshal(attache.Problem{
		Type:      "about:blank",
		Title:     why.code.Title(),
		Status:    status,
		Code:      why.code,
		Detail:    why.detail,
		RequestID: id,
	})
	if err != nil {
		body = []byte("{}") // cannot be: strings and numbers always encode
	}
	body = append(body, '\n')
	h := http.Header{
		"Content-Type":   {"application/problem+json"},
		"Content-Length": {strconv.Itoa(len(body))},
		"Cache-Control":  {"no-store"},
		"Attache-Error":  {string(why.code)},
	}
	if t := why.code.ProxyStatus(); t != "" {
		h["Proxy-Status"] = []string{"attache; error=" + t}
	}
	switch status {
	case http.StatusProxyAuthRequired:
		h["Proxy-Authenticate"] = []string{`Basic realm="attache"`}
	case http.StatusMethodNotAllowed:
		h["Allow"] = []string{"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	}
	return &http.Response{
		StatusCode:    status,
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

// write answers w with the problem.
func (why problem) write(w http.ResponseWriter, r *http.Request, id string) {
	if r.ContentLength != 0 { // our server reads what is left of the body, first
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftoverWait))
	}
	resp := why.response(r, id)
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, resp.Body)
	}
}
