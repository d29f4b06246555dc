package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"attache"
	"attache/policy"
)

// caller is who opened a tunnel or sent a plain request. It is settled once, by
// the access token, and the token is looked up again for every request.
type caller struct {
	integration string
	connection  string // named by the client, or empty
	token       attache.TokenHash
}

// What a client is told when its token will not do.
const (
	tokenMissing = "Set the proxy URL to http://INTEGRATION:ACCESS_TOKEN@HOST:PORT; make a token with `attache token create --integration INTEGRATION`."
	tokenInvalid = "The access token is unknown, revoked, expired, or not of the integration named as user. The proxy URL is http://INTEGRATION:ACCESS_TOKEN@HOST:PORT, or INTEGRATION.CONNECTION as user to name a connection; make a token with `attache token create --integration INTEGRATION`."
)

// identify finds the caller in Proxy-Authorization (RFC 9110, section 11.7):
// Basic with INTEGRATION or INTEGRATION.CONNECTION as user and the access token
// as password, or Bearer with the token alone.
func identify(ix *policy.Index, h http.Header) (caller, *problem) {
	fields := h["Proxy-Authorization"]
	if len(fields) == 0 {
		return caller{}, &problem{attache.CodeTokenMissing, tokenMissing}
	}
	invalid := &problem{attache.CodeTokenInvalid, tokenInvalid}
	if len(fields) > 1 {
		return caller{}, invalid
	}
	scheme, rest, _ := strings.Cut(fields[0], " ")
	var user, password string
	switch rest = strings.TrimSpace(rest); {
	case strings.EqualFold(scheme, "Bearer"):
		password = rest
	case strings.EqualFold(scheme, "Basic"):
		plain, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return caller{}, invalid
		}
		user, password, _ = strings.Cut(string(plain), ":")
		if user == "" {
			return caller{}, invalid
		}
	default:
		return caller{}, invalid
	}
	hash, err := attache.ParseToken(attache.AccessTokenPrefix, password)
	if err != nil {
		return caller{}, invalid
	}
	integration, connection, _ := strings.Cut(user, ".")
	token, ok := ix.AccessToken(hash)
	if !ok || token.Expired(time.Now()) || user != "" && integration != token.Integration {
		return caller{}, invalid
	}
	return caller{token.Integration, connection, hash}, nil
}

// stillValid tells whether the caller's token has not been revoked since, nor run out.
func (c caller) stillValid(ix *policy.Index, now time.Time) bool {
	token, ok := ix.AccessToken(c.token)
	return ok && token.Integration == c.integration && !token.Expired(now)
}

// connectionHeader is how a request names the connection that it wants.
const connectionHeader = "Attache-Connection"

// named is the connection that a request asks for: by its own header, else by
// the user name in the proxy URL.
func (c caller) named(header string) string {
	if header != "" {
		return header
	}
	return c.connection
}

// guard stands in front of goproxy on the outer server: a CONNECT, or a request
// for a plain http URL, from a caller with an access token.
func (p *Proxy) guard(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		ending.write(w, r, p.ids.next())
		return
	}
	defer p.handlers.Done()
	p.asked.Add(1)
	defer p.asked.Add(-1)
	switch {
	case r.Method == http.MethodConnect:
		p.guardConnect(w, r)
	case r.URL.IsAbs():
		p.guardPlain(w, r)
	default:
		record := p.begin(new(record), attache.RequestEvent, r)
		defer record.finish()
		why := problem{attache.CodeBadRequest, "This is a proxy, not a web server: set HTTPS_PROXY to its address. `attache run -- COMMAND` does it for one command."}
		record.denied(why)
		record.Status = why.code.Status()
		why.write(w, r, record.ID)
	}
}

// guardConnect settles who calls and where to, decides what kind of tunnel it
// will be, and lets goproxy open it.
func (p *Proxy) guardConnect(w http.ResponseWriter, r *http.Request) {
	t := new(tunnel)
	p.begin(&t.record.record, attache.ConnectEvent, r)
	defer func() {
		if t.Conn == nil { // refused: there is no tunnel whose end would finish it
			t.record.finish()
			t.closeUpstream()
		}
	}()
	refuse := func(why problem) {
		t.record.denied(why)
		t.record.Status = why.code.Status()
		why.write(w, r, t.record.ID)
	}

	ix := p.with.Index()
	who, why := identify(ix, r.Header)
	if why != nil {
		refuse(*why)
		return
	}
	t.caller = who
	t.caller.connection = who.named(r.Header.Get(connectionHeader))
	t.record.Integration = who.integration

	target, err := policy.ParseTarget("https", r.RequestURI) // which net/http has cut to make r.Host
	if err != nil {
		refuse(problem{attache.CodeBadTarget, badTarget(err)})
		return
	}
	t.target, t.authority, t.origin = target, target.Addr(), target.String()
	t.hostLine = "Host: " + strings.TrimPrefix(t.origin, "https://") + "\r\n"
	t.record.Target = t.authority

	t.decide(ix, p.settings.Unmatched)
	if t.decision.Action == attache.Tunnel && !t.mayBeClear {
		if why := p.dialOpaque(r.Context(), t); why != nil && why.code.Status() != http.StatusForbidden {
			t.record.failed(*why)
			t.record.Status = why.code.Status()
			why.write(w, r, t.record.ID)
			return
		}
	}
	p.core.ServeHTTP(connectWriter{w}, r.WithContext(context.WithValue(r.Context(), tunnelKey{}, t)))
}

// guardPlain lets a request for an http URL through to goproxy, where it will
// be forwarded without a credential or refused.
func (p *Proxy) guardPlain(w http.ResponseWriter, r *http.Request) {
	x := &exchange{record: p.begin(new(record), attache.RequestEvent, r), proxy: p, client: w}
	defer x.record.finish()

	who, why := identify(p.with.Index(), r.Header)
	if why != nil {
		x.refuse(r, *why)
		return
	}
	x.caller = who
	if r.URL.Scheme != "http" {
		x.refuse(r, problem{attache.CodeBadRequest, "Only http URLs can be asked for without a tunnel: send CONNECT for https, as HTTPS_PROXY makes clients do."})
		return
	}
	target, err := policy.ParseTarget("http", r.URL.Host)
	if err != nil {
		x.refuse(r, problem{attache.CodeBadTarget, badTarget(err)})
		return
	}
	x.target = target
	p.exchange(x, r)
}

// badTarget says what is wrong with a target; the rule never quotes it.
func badTarget(err error) string {
	var field *attache.FieldError
	if errors.As(err, &field) {
		return "The target " + field.Rule + ". " + field.Remedy
	}
	return "The target is not a host and a port."
}

// connectWriter gives goproxy a connection that still holds what the client sent
// together with its CONNECT: a ClientHello, as often as not.
type connectWriter struct{ http.ResponseWriter }

func (w connectWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, err := hijack(w.ResponseWriter)
	return conn, nil, err
}

// hijack takes the connection from its server, with the bytes that the server
// had read ahead.
func hijack(w http.ResponseWriter) (net.Conn, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		conn = &replay{Conn: conn, early: bytes.Clone(early)}
	}
	return conn, nil
}

// replay is a connection some of whose bytes were read before.
type replay struct {
	net.Conn
	early []byte
}

func (c *replay) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite passes a half-close on.
func (c *replay) CloseWrite() error { return closeWrite(c.Conn) }
