package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"

	"attache/proxy"
)

// BenchmarkRequest is a small request and its answer, from a client to an
// upstream and back, with all three in this process; the upstream is as lean as
// can be.
func BenchmarkRequest(b *testing.B) {
	for name, ordinary := range map[string]bool{"fast": false, "ordinary": true} {
		b.Run(name, func(b *testing.B) {
			up := rawUpstream(b, func(c net.Conn, br *bufio.Reader) {
				for skipHead(br) == nil {
					_, _ = io.WriteString(c, okAnswer)
				}
			})
			w := newWorld(b, up, func(s *proxy.Settings) { s.Ordinary = ordinary }, bearer("for-a", host))
			conn := w.secure(w.open(up.authority(host)), host)
			get := fmt.Appendf(nil, "GET /a HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n", up.authority(host))
			answer := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = conn.Write(get)
				if _, err := conn.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRequestOverHTTP2 is that for a client that speaks HTTP/2, with its cost.
func BenchmarkRequestOverHTTP2(b *testing.B) {
	up := rawUpstream(b, func(c net.Conn, br *bufio.Reader) {
		for skipHead(br) == nil {
			_, _ = io.WriteString(c, okAnswer)
		}
	})
	w := newWorld(b, up, nil, bearer("for-a", host))
	client := w.client()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Get(w.url("/a"))
		if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
			b.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

func skipHead(br *bufio.Reader) error {
	for {
		line, err := br.ReadSlice('\n')
		if err != nil || len(line) == 2 {
			return err
		}
	}
}

// BenchmarkConnect is a client that opens a tunnel, asks once in it, and leaves: the
// cost of both sides.
func BenchmarkConnect(b *testing.B) {
	up := newOrigin(b, nil, only11)
	w := newWorld(b, up, nil, bearer("for-a", host))
	a := up.authority(host)
	b.ReportAllocs()
	for b.Loop() {
		c := w.secure(w.open(a), host)
		if resp, _ := ask(b, c, "GET / HTTP/1.1\r\nHost: "+a+"\r\n\r\n"); resp.StatusCode != 200 {
			b.Fatal(resp.Status)
		}
		_ = c.Close()
	}
}
