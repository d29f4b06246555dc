package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Requests and answers of every size arrive whole, in small buffers, in large ones and
// in between.
func TestEverySizeArrivesWhole(t *testing.T) {
	const pattern = "0123456789abcdefghijklmnopqrstuvwxyz" // no buffer has a multiple of its length
	text := strings.Repeat(pattern, 2000)
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		var head, body int
		var framing string
		_, _ = fmt.Sscanf(r.URL.Path, "/%d/%d/%s", &head, &body, &framing)
		sent, err := io.ReadAll(r.Body)
		if err != nil || string(sent) != text[:len(sent)] || len(r.Header.Get("Filling")) != head {
			http.Error(w, fmt.Sprintf("%d bytes arrived, or others, and a field of %d: %v", len(sent), len(r.Header.Get("Filling")), err), http.StatusTeapot)
			return
		}
		w.Header().Set("Filling", text[:head])
		w.Header().Set("Arrived", fmt.Sprint(len(sent)))
		if framing == "sized" {
			w.Header().Set("Content-Length", fmt.Sprint(body))
		} else {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, text[:body])
	})
	w := newWorld(t, up, nil, bearer("for-a", host))
	w.assumeHTTP1()
	heads := []int{0, 200, 450, 1900, 2100, 3800, 3900, 4100, 9000, 31_000}
	bodies := []int{0, 1, 300, 3500, 3900, 4050, 4096, 4200, 9000, 16_300, 16_384, 20_000, 32_700, 40_000, 70_000}
	for protocol, client := range map[string]*http.Client{"HTTP/1.1": w.client(h1), "HTTP/2.0": w.client()} {
		for _, head := range heads {
			for i, body := range bodies {
				for _, framing := range []string{"sized", "chunked"} {
					sent := bodies[len(bodies)-1-i]
					if framing == "chunked" {
						sent = 0
					}
					r := request(t, "POST", w.url(fmt.Sprintf("/%d/%d/%s", head, body, framing)), strings.NewReader(text[:sent]))
					r.Header.Set("Filling", text[:head])
					resp, got := get(t, client, r)
					if resp.StatusCode != 200 || resp.Proto != protocol || got != text[:body] || resp.Header.Get("Filling") != text[:head] || resp.Header.Get("Arrived") != fmt.Sprint(sent) {
						t.Errorf("%s, a field of %d bytes, %d sent, %d to come (%s): %d over %s, %d bytes arrived, or others: %.80s",
							protocol, head, sent, body, framing, resp.StatusCode, resp.Proto, len(got), got)
					}
				}
			}
		}
	}
}
