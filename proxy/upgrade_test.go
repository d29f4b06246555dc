package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"attache"
)

// echoUpgrade switches to the protocol that it is asked for and echoes bytes
// until the client ends; gone is closed when it sees that.
func echoUpgrade(t testing.TB, gone chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+canary || r.Header.Get("Upgrade") == "" {
			http.Error(w, "no upgrade", 400)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer close(gone)
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-Websocket-Accept: yes\r\n\r\nhello", r.Header.Get("Upgrade"))
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	}
}

func TestProtocolsAreSwitched(t *testing.T) {
	for name, change := range map[string][]func(*httptest.Server){"of an h1 origin": {only11}, "of an origin that prefers h2": nil} {
		for _, protocol := range []string{"websocket", "SPDY/3.1"} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				gone := make(chan struct{})
				up := newOrigin(t, echoUpgrade(t, gone), change...)
				w := newWorld(t, up, nil, bearer("for-a", host))
				conn := w.secure(w.open(up.authority(host)), host)
				// The first frame comes with the request, as some clients send it.
				fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: k\r\n\r\nearly", up.authority(host), protocol)
				br := bufio.NewReader(conn)
				resp, err := http.ReadResponse(br, nil)
				if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != protocol || resp.Header.Get("Sec-Websocket-Accept") != "yes" {
					t.Fatalf("answer %v, %v", resp, err)
				}
				read := func(want string) {
					t.Helper()
					got := make([]byte, len(want))
					if _, err := io.ReadFull(br, got); err != nil || string(got) != want {
						t.Fatalf("read %q, %v; want %q", got, err, want)
					}
				}
				read("helloearly")
				for range 3 {
					_, _ = io.WriteString(conn, "ping")
					read("ping")
				}
				_ = conn.Close()
				select {
				case <-gone: // the upstream's socket does not stay after the client has left
				case <-time.After(10 * time.Second):
					t.Fatal("the upstream was not told that the client left")
				}
				if e := w.event(isRequest); e.Status != 101 || e.Connection != "for-a" || e.BytesIn != 12+5 || e.BytesOut == 0 {
					t.Errorf("event %+v", e)
				}
				w.event(isConnect)
			})
		}
	}
}

func TestARefusedUpgradeIsAnAnswerLikeAnyOther(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUpgradeRequired) })
	w := newWorld(t, up, nil, bearer("for-a", host))
	conn := w.secure(w.open(up.authority(host)), host)
	resp, body := ask(t, conn, "GET / HTTP/1.1\r\nHost: "+up.authority(host)+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp.StatusCode != 426 || body != "no\n" {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
}

func TestNoTunnelIsSwitchedToH2C(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("Upgrade")) }, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	for _, upgrade := range []string{"h2c", "websocket, H2C"} {
		conn := w.secure(w.open(up.authority(host)), host)
		resp, body := ask(t, conn, "GET / HTTP/1.1\r\nHost: "+up.authority(host)+"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "+upgrade+"\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
		if resp.StatusCode != 200 || body != "" || up.last().Header.Get("Http2-Settings") != "" {
			t.Errorf("%s: answer %d, the upstream saw %v", upgrade, resp.StatusCode, up.last().Header)
		}
	}
}

// A request with a body is sent without its upgrade: what is left of the body when the
// upstream switches would be mixed with what the client says then.
func TestARequestWithABodyIsNotSwitched(t *testing.T) {
	up := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, only11)
	w := newWorld(t, up, nil, bearer("for-a", host))
	for _, framing := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		conn := w.secure(w.open(up.authority(host)), host)
		resp, body := ask(t, conn, "POST / HTTP/1.1\r\nHost: "+up.authority(host)+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+framing)
		if resp.StatusCode != 200 || body != "hello" {
			t.Errorf("answer %d %q", resp.StatusCode, body)
		}
		if h := up.last().Header; h.Get("Upgrade") != "" || h.Get("Connection") != "" {
			t.Errorf("the upstream saw %v", h)
		}
	}
}

// grpcEcho is a service with one unary and one bidirectional method, both of
// which demand our credential.
func grpcEcho() *grpc.ServiceDesc {
	authorized := func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		if v := md.Get("authorization"); len(v) != 1 || v[0] != "Bearer "+canary {
			return status.Error(codes.Unauthenticated, "no credential")
		}
		return nil
	}
	return &grpc.ServiceDesc{
		ServiceName: "test.Echo",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in wrapperspb.StringValue
			if err := decode(&in); err != nil {
				return nil, err
			}
			if in.Value == "fail" {
				return nil, status.Error(codes.FailedPrecondition, "as you wished")
			}
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "yes"))
			return &in, authorized(ctx)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Both", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			if err := authorized(s.Context()); err != nil {
				return err
			}
			for {
				var in wrapperspb.StringValue
				if err := s.RecvMsg(&in); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := s.SendMsg(&in); err != nil {
					return err
				}
			}
		}}},
	}
}

func TestGRPC(t *testing.T) {
	cert := issue(t, time.Now().Add(time.Hour), host)
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	server.RegisterService(grpcEcho(), nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(server.Stop)
	up := &origin{port: portOf(t, ln.Addr())}
	w := newWorld(t, up, nil, bearer("for-a", host))

	conn, err := grpc.NewClient("passthrough:///"+up.authority(host),
		grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(w.roots, "")),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return w.open(up.authority(host)), nil }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()

	var out wrapperspb.StringValue
	var trailer metadata.MD
	if err := conn.Invoke(ctx, "/test.Echo/Unary", wrapperspb.String("hello"), &out, grpc.Trailer(&trailer)); err != nil || out.Value != "hello" {
		t.Fatalf("unary: %q, %v", out.Value, err)
	}
	if v := trailer.Get("x-trailer"); len(v) != 1 || v[0] != "yes" {
		t.Errorf("trailers %v", trailer)
	}
	err = conn.Invoke(ctx, "/test.Echo/Unary", wrapperspb.String("fail"), &out)
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "as you wished" {
		t.Errorf("failure arrived as %v", err)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Both")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // each message comes back before the next is sent
		want := fmt.Sprint("message ", i)
		if err := stream.SendMsg(wrapperspb.String(want)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&out); err != nil || out.Value != want {
			t.Fatalf("stream: %q, %v", out.Value, err)
		}
	}
	_ = stream.CloseSend()
	if err := stream.RecvMsg(&out); err != io.EOF {
		t.Errorf("the stream ended with %v", err)
	}
	w.event(func(e attache.Event) bool { return e.Path == "/test.Echo/Both" && e.Status == 200 })
}
