package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"attache"
	"attache/secret"
)

// A lease lets one run use the proxy for as long as it lives. The run makes an
// access token and sends its hash over the server's Unix socket; the server takes
// the token for as long as that connection stays open, and never stores it. So a
// token ends with its run, however the run ends, and nothing has to be cleaned up
// after a crash of either. A server that has leases is not idle.

const (
	leasePath     = "/lease"
	maxLeaseBytes = 64 << 10
	// leaseTimeout bounds the server's answer, not the lease.
	leaseTimeout = 10 * time.Second
)

// leaseRequest asks for a lease.
type leaseRequest struct {
	Integration string `json:"integration"`
	ID          string `json:"id"`   // of the access token
	Hash        string `json:"hash"` // of the access token, hexadecimal
}

// leaseAnswer is the first line of the answer, which ends with the lease.
type leaseAnswer struct {
	ProxyURL string `json:"proxy_url"` // without the user
	CA       string `json:"ca"`        // PEM, what clients have to trust
	// Background is that of a server that run has started. The next one listens on
	// another port.
	Background bool `json:"background"`
}

// serveLease answers a run, until it or the server ends.
func (s *server) serveLease(w http.ResponseWriter, r *http.Request) {
	var in leaseRequest
	err := json.NewDecoder(io.LimitReader(r.Body, maxLeaseBytes)).Decode(&in)
	hash, err2 := hex.DecodeString(in.Hash)
	if err != nil || err2 != nil || len(hash) != sha256.Size || in.ID == "" {
		http.Error(w, "not a lease", http.StatusBadRequest)
		return
	}
	token := attache.AccessToken{ID: in.ID, Integration: in.Integration, Hash: attache.TokenHash(hash), CreatedAt: time.Now().UTC()}
	// Before asking whether the integration exists: its deletion takes the token
	// with it, and so cannot slip in between.
	s.data.live.Apply(attache.Change{AccessToken: &token})
	defer s.data.live.Apply(attache.Change{AccessToken: &token, Deleted: true})
	all, err := s.data.store.Integrations(r.Context())
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if !slices.ContainsFunc(all, func(i attache.Integration) bool { return i.Name == in.Integration }) {
		http.Error(w, "no such integration", http.StatusNotFound)
		return
	}
	ca, err := s.data.authority.PEM(r.Context())
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if err := json.NewEncoder(w).Encode(leaseAnswer{ProxyURL: s.proxyURL(), CA: ca, Background: s.yields}); err != nil {
		return
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	s.log.Debug("a run begins", slog.String("integration", in.Integration), slog.String("access_token", in.ID))
	select {
	case <-r.Context().Done():
	case <-s.draining:
	}
}

// lease is a run's side.
type lease struct {
	leaseAnswer
	lost <-chan struct{} // closed when the server ends, or end is called
	end  func()
}

// errOldServer: the server that runs knows no leases.
var errOldServer = errors.New("the server that runs on the data directory is of another version of attache: restart it")

// takeLease leases from the server of a data directory, or fails with
// errNoServer.
func takeLease(ctx context.Context, dir, integration string, token accessToken) (*lease, error) {
	body, err := json.Marshal(leaseRequest{Integration: integration, ID: token.id, Hash: hex.EncodeToString(token.hash[:])})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	timeout := time.AfterFunc(leaseTimeout, cancel)
	resp, err := askSocket(ctx, filepath.Join(dir, socketFile), leasePath, body)
	if err == nil {
		err = refusal(resp, dir)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	answers := json.NewDecoder(resp.Body)
	l := &lease{}
	if err := answers.Decode(&l.leaseAnswer); err != nil || !timeout.Stop() {
		cancel()
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %w", dir, errNoServer) // it ended just now
	}
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}()
	l.lost = lost
	l.end = func() {
		cancel()
		<-lost
	}
	return l, nil
}

// askSocket sends a request to the server on a socket, beside its API; errNoServer
// is that there is none.
func askSocket(ctx context.Context, socket, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://attache"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := socketTransport(socket).RoundTrip(r)
	if unanswered(err) {
		err = fmt.Errorf("%s: %w", filepath.Dir(socket), errNoServer)
	}
	return resp, err
}

// unanswered reports whether nobody answers on a socket: nobody listens, or who did
// ended just now.
func unanswered(err error) bool {
	return notListening(err) || cutOff(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// socketTransport goes to a Unix socket, whatever the URL says, and keeps nothing
// open.
func socketTransport(socket string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if err := checkSocketPath(socket); err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}

// refusal is what an answer says instead of granting a lease, or nil.
func refusal(resp *http.Response, dir string) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable: // it is ending
		return fmt.Errorf("%s: %w", dir, errNoServer)
	case resp.Header.Get("Content-Type") == "application/problem+json": // of the API
		return errOldServer
	case resp.StatusCode == http.StatusNotFound:
		return attache.ErrNotFound
	default:
		return fmt.Errorf("ask the server for a lease: it answered %s", resp.Status)
	}
}

// accessToken is an access token with what proves it.
type accessToken struct {
	id   string
	text secret.Text
	hash attache.TokenHash
}

func newAccessToken() accessToken {
	id, text, hash := attache.NewToken(attache.AccessTokenPrefix)
	return accessToken{id, text, hash}
}
