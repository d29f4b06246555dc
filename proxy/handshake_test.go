package proxy_test

import (
	"crypto/tls"
	"testing"

	"attache/proxy"
)

func TestKeysAreAgreedOnAsConfigured(t *testing.T) {
	up := newOrigin(t, nil)
	for name, c := range map[string]struct {
		curves []tls.CurveID
		want   tls.CurveID
	}{
		"as crypto/tls prefers": {nil, tls.X25519MLKEM768},
		"without the hybrid":    {[]tls.CurveID{tls.X25519, tls.CurveP256}, tls.X25519},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, up, func(s *proxy.Settings) { s.Curves = c.curves }, bearer("for-a", host))
			conn := w.secure(w.open(up.authority(host)), host)
			if got := conn.ConnectionState().CurveID; got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
