package oauth

import (
	"context"
	"net/url"
	"time"

	"attache/secret"
)

const (
	defaultInterval = 5 * time.Second // RFC 8628, section 3.2
	minInterval     = time.Second
	maxInterval     = time.Minute
	maxDeviceLife   = time.Hour
)

// DeviceCode is what a provider gave to sign in on another device (RFC 8628,
// section 3.2).
type DeviceCode struct {
	Code     secret.Text
	UserCode string // for the person to type in
	URL      string // where
	// CompleteURL is the same with the user code in it; empty: there is none.
	CompleteURL string
	Expires     time.Time
	Interval    time.Duration // to wait between two polls
}

// Device asks for a device code. An empty scope means the client's default
// scopes.
func (c *Client) Device(ctx context.Context, scope string) (DeviceCode, error) {
	p := c.registration.Provider
	if p.DeviceURL == "" {
		return DeviceCode{}, &Error{Kind: ClientRefused, Code: CodeNoDeviceFlow, Unsent: true}
	}
	v := url.Values{"client_id": {c.registration.ClientID}}
	for name, value := range map[string]string{"scope": c.scope(scope), "audience": p.Audience, "resource": p.Resource} {
		if value != "" {
			v.Set(name, value)
		}
	}
	a, sent, err := c.post(ctx, p.DeviceURL, v)
	if err != nil {
		return DeviceCode{}, err
	}
	f, err := parseFields(a)
	if failed := failure(a, f, sent); failed != nil {
		return DeviceCode{}, failed
	}
	d := DeviceCode{
		Code:        f.secret("device_code"),
		UserCode:    printable(f.text("user_code")),
		URL:         c.pageURL(f, "verification_uri", "verification_url"), // the second of a draft
		CompleteURL: c.pageURL(f, "verification_uri_complete", "verification_url_complete"),
		Expires:     a.asked.Add(min(f.lifetime("expires_in"), maxDeviceLife)),
		Interval:    defaultInterval,
	}
	if interval := f.lifetime("interval"); interval > 0 {
		d.Interval = min(max(interval, minInterval), maxInterval)
	}
	if err != nil || d.Code.IsZero() || d.UserCode == "" || len(d.UserCode) > 64 || d.URL == "" || d.Expires.Equal(a.asked) {
		return DeviceCode{}, &Error{Kind: Malformed, Code: CodeMalformed, Status: a.status}
	}
	return d, nil
}

// PollDevice asks once whether the person has confirmed. The kinds of its error
// are [Pending], [SlowDown], and those of any token request.
func (c *Client) PollDevice(ctx context.Context, code secret.Text) (Token, error) {
	return c.askToken(ctx, c.registration.TokenURL, url.Values{
		"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
		"device_code": {code.Expose()},
	})
}

// pageURL is a URL that may be shown to a person; empty where it may not.
func (c *Client) pageURL(f fields, names ...string) string {
	for _, name := range names {
		if u, err := c.endpoint.fill(name, f.text(name), ""); err == nil && u != "" {
			return u
		}
	}
	return ""
}
