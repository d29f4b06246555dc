package proxy

import (
	"io"
	"net"
	"net/http/httptest"
	"testing"

	"attache"
)

// A tunnel that others can find can be closed by them: when the proxy ends, that may be
// the moment in which it opens.
func TestATunnelCanBeClosedWhileItOpens(t *testing.T) {
	p := &Proxy{ids: newIDs(), open: make(map[*tunnel]struct{})}
	var events []attache.Event
	p.with.Record = func(e *attache.Event) { events = append(events, *e) }
	for range 100 {
		client, conn := net.Pipe()
		r := httptest.NewRequestWithContext(t.Context(), "CONNECT", "https://a.example:443", nil)
		tun := new(tunnel)
		p.begin(&tun.record.record, attache.ConnectEvent, r)
		opened := make(chan struct{})
		go func() {
			defer close(opened)
			p.establish(tun, r, conn)
		}()
		for found := false; !found; {
			p.mu.Lock()
			_, found = p.open[tun]
			p.mu.Unlock()
		}
		_ = tun.Close()
		_, _ = io.Copy(io.Discard, client)
		<-opened
	}
	if len(events) != 100 || len(p.open) != 0 {
		t.Errorf("%d events of 100 tunnels, %d are open", len(events), len(p.open))
	}
}
