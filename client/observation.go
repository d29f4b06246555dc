package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"attache"
)

// Status is how the server is.
type Status struct {
	Version        string    `json:"version"`
	StartedAt      time.Time `json:"started_at"`
	UptimeSeconds  float64   `json:"uptime_seconds"`
	DataDir        string    `json:"data_dir"`
	ProxyAddress   string    `json:"proxy_address,omitempty"` // addresses are empty where nothing listens
	ProxyTLS       bool      `json:"proxy_tls,omitempty"`     // clients reach the proxy through TLS
	AdminAddress   string    `json:"admin_address,omitempty"`
	MetricsAddress string    `json:"metrics_address,omitempty"`
	Counts         Counts    `json:"counts"`
	CA             StatusCA  `json:"ca"`
}

// Counts are how many of each there are.
type Counts struct {
	Integrations int `json:"integrations"`
	AccessTokens int `json:"access_tokens"`
	Connections  int `json:"connections"`
}

// StatusCA is the certificate that signs.
type StatusCA struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256, hexadecimal
	NotAfter    time.Time `json:"not_after"`
}

// Status shows the server's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, nil, "status")
}

// Question is a request that somebody might make through the proxy.
type Question struct {
	Integration string `json:"integration"`
	Connection  string `json:"connection,omitempty"` // that the client would name
	Method      string `json:"method,omitempty"`     // empty: GET
	URL         string `json:"url"`
}

// Explanation is what would happen to it, and why.
type Explanation struct {
	Target     string         `json:"target"`
	Action     attache.Action `json:"action"`
	Connection string         `json:"connection,omitempty"`
	Header     string         `json:"header,omitempty"`
	// Value is the header's value as the API shows it: redacted.
	Value      string       `json:"value,omitempty"`
	Code       attache.Code `json:"code,omitempty"` // with deny
	Reason     string       `json:"reason"`
	Candidates []Candidate  `json:"candidates"`
	Strips     []string     `json:"strips"` // with inject: what is removed from the client's request
}

// Candidate is a connection that was considered.
type Candidate struct {
	Connection    string                `json:"connection"`
	AllowedDomain attache.AllowedDomain `json:"allowed_domain"`
	Chosen        bool                  `json:"chosen"`
	Why           string                `json:"why"`
}

// Explain asks what would happen to a request.
func (c *Client) Explain(ctx context.Context, q Question) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodPost, q, "explain")
}

// RecentEvents is what happened last, at most limit of it, newest first. A limit
// of 0 leaves it to the server.
func (c *Client) RecentEvents(ctx context.Context, limit int) ([]attache.Event, error) {
	params := url.Values{}
	if limit > 0 {
		params.Set("limit", strconv.Itoa(limit))
	}
	out, err := query[struct {
		Events []attache.Event `json:"events"`
	}](ctx, c, http.MethodGet, nil, params, "events")
	return out.Events, err
}

// maxEvent bounds one event of a stream, in bytes.
const maxEvent = 1 << 20

// ErrMissed: the reader was too slow, and the server dropped events. The stream
// goes on after it.
var ErrMissed = errors.New("events were missed")

// Events follows what happens from now on, until ctx ends or the server shuts
// down. An error other than [ErrMissed] is the last thing that it yields.
func (c *Client) Events(ctx context.Context) iter.Seq2[attache.Event, error] {
	return func(yield func(attache.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r, err := c.request(ctx, http.MethodGet, nil, nil, "events")
		if err != nil {
			yield(attache.Event{}, err)
			return
		}
		r.Header.Set("Accept", "text/event-stream")
		resp, err := c.send(r)
		if err != nil {
			yield(attache.Event{}, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		if err := eachEvent(resp.Body, yield); err != nil {
			yield(attache.Event{}, err)
		}
	}
}

// eachEvent reads server-sent events until the stream ends or yield has enough.
// It reads what the API writes: one data line for each message.
func eachEvent(r io.Reader, yield func(attache.Event, error) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	missed := false
	for lines.Scan() {
		line := lines.Text()
		data, isData := strings.CutPrefix(line, "data: ")
		switch {
		case line == "event: missed":
			missed = true
		case line == "":
			missed = false
		case isData && missed:
			var lost struct {
				Missed uint64 `json:"missed"`
			}
			if err := json.Unmarshal([]byte(data), &lost); err != nil {
				return fmt.Errorf("read events: %w", err)
			}
			if !yield(attache.Event{}, fmt.Errorf("%w: %d", ErrMissed, lost.Missed)) {
				return nil
			}
		case isData:
			var e attache.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return fmt.Errorf("read events: %w", err)
			}
			if !yield(e, nil) {
				return nil
			}
		}
	}
	return lines.Err()
}
