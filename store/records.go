package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"attache"
	"attache/secret"
)

// The buckets, and what their keys are. What a key says, the record does not
// repeat: it is sealed to its key.
const (
	integrations = "integrations"  // name
	connections  = "connections"   // integration, name
	oauthClients = "oauth_clients" // integration, name
	grants       = "grants"        // integration, name of the connection
	accessTokens = "access_tokens" // integration, ID
	adminTokens  = "admin_tokens"  // hash, in hexadecimal
	authorities  = "authorities"   // authoritySet: one record for all of them
	arrivals     = "arrivals"      // ID of a move that was imported
)

const authoritySet = "set"

// checkBuckets finds a bucket whose name was damaged: nothing seals a name, and
// its records would seem never to have been.
func checkBuckets(r reader) error {
	names, err := r.Buckets()
	if err != nil {
		return err
	}
	for _, n := range names {
		switch n {
		case metaBucket, integrations, connections, oauthClients, grants, accessTokens, adminTokens, authorities, arrivals:
		default:
			return damaged(fmt.Sprintf("there is a bucket %q, which no version makes", n))
		}
	}
	return nil
}

// separator parts a key; no name contains it.
const separator = "\x00"

// ownedBy begins the keys of all that an integration owns.
func ownedBy(integration string) string { return integration + separator }

// checkNames keeps a name from reaching into another's keys. What names may be
// otherwise is policy's to say.
func checkNames(names ...string) error {
	for _, n := range names {
		if n == "" || strings.Contains(n, separator) {
			return errors.New("store: a name is empty or contains a zero byte")
		}
	}
	return nil
}

// Records are what is sealed: JSON, in which secrets are in the clear, and bytes,
// for JSON would repair a string that is not UTF-8. This file and oauthrecords.go
// are the only ones in the package that expose a secret.
type (
	integrationRecord struct {
		CreatedAt time.Time `json:"created_at"`
	}

	connectionRecord struct {
		Type          attache.ConnectionType `json:"type"`
		AllowedDomain attache.AllowedDomain  `json:"allowed_domain"`
		AllowedPorts  []uint16               `json:"allowed_ports"`
		HeaderName    attache.HeaderName     `json:"header_name,omitempty"`
		StripCookies  bool                   `json:"strip_cookies,omitempty"`
		OAuthClient   string                 `json:"oauth_client,omitempty"`
		Subdomain     string                 `json:"subdomain,omitempty"`
		Scope         string                 `json:"scope,omitempty"`
		APIKey        []byte                 `json:"api_key,omitempty"`
		Username      []byte                 `json:"username,omitempty"`
		Password      []byte                 `json:"password,omitempty"`
		Token         []byte                 `json:"token,omitempty"`
		CreatedAt     time.Time              `json:"created_at"`
		UpdatedAt     time.Time              `json:"updated_at"`
	}

	accessTokenRecord struct {
		Hash      attache.TokenHash `json:"hash"`
		CreatedAt time.Time         `json:"created_at"`
		ExpiresAt time.Time         `json:"expires_at,omitzero"`
	}

	adminTokenRecord struct {
		ID        string       `json:"id"`
		Role      attache.Role `json:"role"`
		CreatedAt time.Time    `json:"created_at"`
		ExpiresAt time.Time    `json:"expires_at,omitzero"`
	}

	authorityRecord struct {
		Certificate []byte    `json:"certificate"`
		Key         []byte    `json:"key"`
		CreatedAt   time.Time `json:"created_at"`
	}

	arrivalRecord struct {
		Integration string    `json:"integration"`
		Connection  string    `json:"connection"`
		At          time.Time `json:"at"`
	}
)

// stored is a time as it comes back from a record.
func stored(t time.Time) time.Time { return t.UTC().Round(0) }

func (r integrationRecord) integration(name string) attache.Integration {
	return attache.Integration{Name: name, CreatedAt: r.CreatedAt}
}

func newConnectionRecord(c attache.Connection) connectionRecord {
	return connectionRecord{
		Type:          c.Type,
		AllowedDomain: c.AllowedDomain,
		AllowedPorts:  slices.Clone(c.AllowedPorts),
		HeaderName:    c.HeaderName,
		StripCookies:  c.StripCookies,
		OAuthClient:   c.OAuthClient,
		Subdomain:     c.Subdomain,
		Scope:         c.Scope,
		APIKey:        []byte(c.Credential.APIKey.Expose()),
		Username:      []byte(c.Credential.Username.Expose()),
		Password:      []byte(c.Credential.Password.Expose()),
		Token:         []byte(c.Credential.Token.Expose()),
		CreatedAt:     stored(c.CreatedAt),
		UpdatedAt:     stored(c.UpdatedAt),
	}
}

// connection is what the record says, without the grant, which has its own.
func (r connectionRecord) connection(integration, name string) attache.Connection {
	return attache.Connection{
		Integration:   integration,
		Name:          name,
		Type:          r.Type,
		AllowedDomain: r.AllowedDomain,
		AllowedPorts:  r.AllowedPorts,
		HeaderName:    r.HeaderName,
		StripCookies:  r.StripCookies,
		OAuthClient:   r.OAuthClient,
		Subdomain:     r.Subdomain,
		Scope:         r.Scope,
		Credential: attache.Credential{
			APIKey:   secret.New(string(r.APIKey)),
			Username: secret.New(string(r.Username)),
			Password: secret.New(string(r.Password)),
			Token:    secret.New(string(r.Token)),
		},
		CreatedAt: r.CreatedAt,
		UpdatedAt: r.UpdatedAt,
	}
}

func (r accessTokenRecord) accessToken(integration, id string) attache.AccessToken {
	return attache.AccessToken{ID: id, Integration: integration, Hash: r.Hash, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt}
}

func (r adminTokenRecord) adminToken(hash attache.TokenHash) attache.AdminToken {
	return attache.AdminToken{ID: r.ID, Role: r.Role, Hash: hash, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt}
}

func newAuthorityRecord(a Authority) authorityRecord {
	return authorityRecord{a.Certificate, []byte(a.Key.Expose()), stored(a.CreatedAt)}
}

func (r authorityRecord) authority() Authority {
	return Authority{r.Certificate, secret.New(string(r.Key)), r.CreatedAt}
}

// view and change are a transaction in which values are sealed.
type (
	view struct {
		reader
		sealer
	}
	change struct {
		writer
		sealer
	}
)

func (c change) view() view { return view{c.writer, c.sealer} }

// load reads a record, or fails with attache.ErrNotFound.
func load[R any](v view, bucket, key string) (record R, err error) {
	sealed, err := v.Get(bucket, key)
	if err != nil {
		return record, err
	}
	if sealed == nil {
		return record, attache.ErrNotFound
	}
	return decode[R](v.sealer, bucket, entry{key, sealed})
}

// loadAll reads the records whose keys begin with prefix and are greater than
// after, in order of their keys.
func loadAll[R any](v view, bucket, prefix, after string) iter.Seq2[keyed[R], error] {
	return func(yield func(keyed[R], error) bool) {
		for e, err := range v.List(bucket, prefix, after) {
			k := keyed[R]{Key: e.Key}
			if err == nil {
				k.Record, err = decode[R](v.sealer, bucket, e)
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

type keyed[R any] struct {
	Key    string
	Record R
}

// name is the last part of the key.
func (k keyed[R]) name() string { return k.Key[strings.LastIndex(k.Key, separator)+1:] }

// owner is the part before: the integration.
func (k keyed[R]) owner() string {
	owner, _, _ := strings.Cut(k.Key, separator)
	return owner
}

func decode[R any](s sealer, bucket string, e entry) (record R, err error) {
	plain, err := s.unseal(bucket, e.Key, e.Value)
	if err != nil {
		return record, err
	}
	// A json error can quote what it stumbled over.
	if json.Unmarshal(plain, &record) != nil {
		return record, damaged(fmt.Sprintf("the record %q in %s cannot be decoded", e.Key, bucket))
	}
	return record, nil
}

// save writes a record over whatever has the key.
func (c change) save(bucket, key string, record any) error {
	plain, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode a record of %s: %w", bucket, err)
	}
	sealed, err := c.seal(bucket, key, plain)
	if err != nil {
		return err
	}
	return c.Put(bucket, key, sealed)
}

// create writes a record, or fails with attache.ErrExists.
func (c change) create(bucket, key string, record any) error {
	if there, err := c.Get(bucket, key); err != nil {
		return err
	} else if there != nil {
		return attache.ErrExists
	}
	return c.save(bucket, key, record)
}

// remove deletes a record, or fails with attache.ErrNotFound.
func (c change) remove(bucket, key string) error {
	if there, err := c.Get(bucket, key); err != nil {
		return err
	} else if there == nil {
		return attache.ErrNotFound
	}
	return c.Delete(bucket, key)
}
