package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"attache"
	"attache/secret"
)

// A mirror is what a subscriber makes of the changes: what is there. It has no
// lock; the store promises that it needs none for writing.
type mirror map[string]string

func (m mirror) apply(c attache.Change) {
	var key, value string
	switch {
	case c.Integration != nil:
		key = c.Integration.Name
		if c.Deleted {
			maps.DeleteFunc(m, func(k, _ string) bool { return k == key || len(k) > len(key) && k[:len(key)+1] == key+"/" })
			return
		}
	case c.AccessToken != nil:
		key, value = c.AccessToken.Integration+"/token/"+c.AccessToken.ID, fmt.Sprint(c.AccessToken.Hash)
	case c.OAuthClient != nil:
		key, value = c.OAuthClient.Integration+"/client/"+c.OAuthClient.Name, c.OAuthClient.ClientID
	case c.Connection != nil:
		key, value = c.Connection.Integration+"/"+c.Connection.Name, c.Connection.Credential.APIKey.Expose()
		if g := c.Connection.Grant; g != nil {
			value = g.AccessToken.Expose()
		}
	}
	if c.Deleted {
		delete(m, key)
		return
	}
	m[key] = value
}

// TestSubscribersSeeWhatIsThere does things at random, and compares what two
// subscribers, an early one and one that comes when all is done, have seen with
// what should be there.
func TestSubscribersSeeWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		s, err := Open(ctx, Options{Dir: dir})
		noError(t, err)
		defer func() { noError(t, s.Close()) }()
		all, err := s.Integrations(ctx)
		noError(t, err)
		for _, i := range all { // of the round before
			noError(t, s.DeleteIntegration(ctx, i.Name))
		}
		m := &machine{s: s, want: mirror{}, early: mirror{}, uses: map[string]string{}}
		_, err = s.Subscribe(ctx, m.early.apply)
		noError(t, err)
		t.Repeat(rapid.StateMachineActions(m))

		late := mirror{}
		_, err = s.Subscribe(ctx, late.apply)
		noError(t, err)
		if diff := cmp.Diff(m.want, late); diff != "" {
			t.Fatal(diff)
		}
		_, err = s.Check(ctx)
		noError(t, err)
	})
}

// A machine does one thing at a time to the store, and to what should be there.
type machine struct {
	s           *Store
	want, early mirror
	uses        map[string]string // of the oauth connections, whether still there or not, their clients
}

func (m *machine) Check(t *rapid.T) {
	if diff := cmp.Diff(m.want, m.early); diff != "" {
		t.Fatal(diff)
	}
}

func (m *machine) CreateIntegration(t *rapid.T) {
	i := name(t)
	err := m.s.CreateIntegration(context.Background(), attache.Integration{Name: i})
	if m.expect(t, err, !m.has(i), attache.ErrExists) {
		m.want[i] = ""
	}
}

func (m *machine) DeleteIntegration(t *rapid.T) {
	i := name(t)
	err := m.s.DeleteIntegration(context.Background(), i)
	if m.expect(t, err, m.has(i), attache.ErrNotFound) {
		m.want.apply(attache.Change{Deleted: true, Integration: &attache.Integration{Name: i}})
	}
}

func (m *machine) CreateConnection(t *rapid.T) {
	i, c := name(t), name(t)
	err := m.s.CreateConnection(context.Background(), apiKey(i, c, "first"))
	m.create(t, err, i, i+"/"+c, "first")
	if err == nil {
		m.uses[i+"/"+c] = ""
	}
}

func (m *machine) CreateOAuthConnection(t *rapid.T) {
	i, c, client := name(t), name(t), name(t)
	x := oauth(i, c)
	x.OAuthClient = client
	err := m.s.CreateConnection(context.Background(), x)
	if m.has(i) && !m.has(i+"/"+c) && !m.has(i+"/client/"+client) {
		m.expect(t, err, false, errNoOAuthClient)
		return
	}
	m.create(t, err, i, i+"/"+c, "")
	if err == nil {
		m.uses[i+"/"+c] = i + "/client/" + client
	}
}

func (m *machine) UpdateGrant(t *rapid.T) {
	i, c, token := name(t), name(t), rapid.StringMatching("[a-z]+").Draw(t, "token")
	err := m.s.UpdateGrant(context.Background(), i, c, func(g *attache.Grant) error {
		g.AccessToken = secret.New(token)
		return nil
	})
	switch key := i + "/" + c; {
	case !m.has(key):
		m.expect(t, err, false, attache.ErrNotFound)
	case m.expect(t, err, m.uses[key] != "", errNotOAuth):
		m.want[key] = token
	}
}

func (m *machine) CreateOAuthClient(t *rapid.T) {
	i, c := name(t), name(t)
	m.create(t, m.s.CreateOAuthClient(context.Background(), oauthClient(i, c)), i, i+"/client/"+c, "id")
}

func (m *machine) UpdateOAuthClient(t *rapid.T) {
	i, c, id := name(t), name(t), rapid.StringMatching("[a-z]+").Draw(t, "id")
	err := m.s.UpdateOAuthClient(context.Background(), i, c, func(c *attache.OAuthClient) error {
		c.ClientID = id
		return nil
	})
	if m.expect(t, err, m.has(i+"/client/"+c), attache.ErrNotFound) {
		m.want[i+"/client/"+c] = id
	}
}

func (m *machine) DeleteOAuthClient(t *rapid.T) {
	i, c := name(t), name(t)
	err := m.s.DeleteOAuthClient(context.Background(), i, c)
	for connection, client := range m.uses {
		if m.has(connection) && client == i+"/client/"+c {
			m.expect(t, err, false, attache.ErrReferenced)
			return
		}
	}
	m.remove(t, err, i+"/client/"+c)
}

func (m *machine) UpdateConnection(t *rapid.T) {
	i, c, key := name(t), name(t), rapid.StringMatching("[a-z]+").Draw(t, "key")
	err := m.s.UpdateConnection(context.Background(), i, c, func(c *attache.Connection) error {
		if c.Type == attache.APIKey {
			c.Credential.APIKey = secret.New(key)
		}
		return nil
	})
	if m.expect(t, err, m.has(i+"/"+c), attache.ErrNotFound) && m.uses[i+"/"+c] == "" {
		m.want[i+"/"+c] = key
	}
}

func (m *machine) DeleteConnection(t *rapid.T) {
	i, c := name(t), name(t)
	m.remove(t, deleteConnection(context.Background(), m.s, i, c), i+"/"+c)
}

func (m *machine) CreateAccessToken(t *rapid.T) {
	i, id := name(t), name(t)
	token := accessToken(i, id)
	m.create(t, m.s.CreateAccessToken(context.Background(), token), i, i+"/token/"+id, fmt.Sprint(token.Hash))
}

func (m *machine) DeleteAccessToken(t *rapid.T) {
	i, id := name(t), name(t)
	m.remove(t, m.s.DeleteAccessToken(context.Background(), i, id), i+"/token/"+id)
}

// create notes what was to be made for an owner, or that it had to fail.
func (m *machine) create(t *rapid.T, err error, owner, key, value string) {
	switch {
	case !m.has(owner):
		m.expect(t, err, false, attache.ErrNotFound)
	case m.expect(t, err, !m.has(key), attache.ErrExists):
		m.want[key] = value
	}
}

func (m *machine) remove(t *rapid.T, err error, key string) {
	if m.expect(t, err, m.has(key), attache.ErrNotFound) {
		delete(m.want, key)
	}
}

func (m *machine) has(key string) bool {
	_, ok := m.want[key]
	return ok
}

// expect fails the test unless err is nil where it is ok, and otherwise want.
func (m *machine) expect(t *rapid.T, err error, ok bool, want error) bool {
	if ok {
		noError(t, err)
	} else if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	return ok
}

// name is one of few, some of which begin others.
func name(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "ab"}).Draw(t, "name") }

func noError(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeletedTokenIsToldWithItsHash(t *testing.T) {
	s := openWith(t)
	want := accessToken("bot", "t")
	must(t, s.CreateAccessToken(t.Context(), want))
	var last attache.Change
	_, err := s.Subscribe(t.Context(), func(c attache.Change) { last = c })
	must(t, err)
	must(t, s.DeleteAccessToken(t.Context(), "bot", "t"))
	if diff := cmp.Diff(attache.Change{Deleted: true, AccessToken: &want}, last); diff != "" {
		t.Error(diff)
	}
}

// TestChangesComeInTheOrderOfCommits has many write at once. Each must find its
// own write seen by the subscribers when it returns, and those must see every
// rotation once and in order, also the ones that came in the middle.
func TestChangesComeInTheOrderOfCommits(t *testing.T) {
	s := openWith(t)
	must(t, s.CreateConnection(t.Context(), attache.Connection{Integration: "bot", Name: "rotating"}))

	var seen sync.Map // token number: true; the one thing that is read while it is written
	var first []int   // what the first subscriber was told
	_, err := s.Subscribe(t.Context(), func(c attache.Change) {
		if c.Connection != nil && c.Connection.Name == "rotating" {
			n := number(c.Connection.Credential.Token)
			first = append(first, n)
			seen.Store(n, true)
		}
	})
	must(t, err)

	const writers, rounds = 4, 25
	later := make([][]int, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for round := range rounds {
				n, err := rotate(t.Context(), s)
				if err != nil {
					t.Error(err)
				}
				if _, ok := seen.Load(n); !ok {
					t.Errorf("%d was written, and the subscriber not told", n)
				}
				if round == i*5 {
					_, err := s.Subscribe(t.Context(), func(c attache.Change) {
						if c.Connection != nil {
							later[i] = append(later[i], number(c.Connection.Credential.Token))
						}
					})
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	want := make([]int, writers*rounds+1)
	for i := range want {
		want[i] = i
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	for _, got := range later {
		if len(got) == 0 || !slices.Equal(got, want[got[0]:]) {
			t.Errorf("who came later was told %v", got)
		}
	}
}

func TestAfterCancelNothingIsTold(t *testing.T) {
	s := openWith(t)
	told, others := 0, 0
	cancel, err := s.Subscribe(t.Context(), func(attache.Change) { told++ })
	must(t, err)
	_, err = s.Subscribe(t.Context(), func(attache.Change) { others++ })
	must(t, err)
	cancel()
	cancel() // twice is once
	must(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "new"}))
	if told != 2 || others != 3 {
		t.Errorf("told %d and %d, want 2 and 3", told, others)
	}
}

func TestWaitingForAnotherWriteEndsWithTheContext(t *testing.T) {
	s := openWith(t)
	told, proceed := make(chan struct{}), make(chan struct{})
	_, err := s.Subscribe(t.Context(), func(c attache.Change) {
		if c.Integration.Name == "slow" {
			close(told)
			<-proceed
		}
	})
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.CreateIntegration(t.Context(), attache.Integration{Name: "slow"}); err != nil {
			t.Error(err)
		}
	})
	<-told
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(cancel)
	wantError(t, s.CreateIntegration(ctx, attache.Integration{Name: "late"}), context.Canceled)
	all, err := s.Integrations(t.Context()) // reading does not wait
	must(t, err)
	if len(all) != 3 {
		t.Errorf("%v", all)
	}
	close(proceed)
	wg.Wait()
}

// doubtful is an engine whose commits say that they failed, whether or not they were
// made.
type doubtful struct {
	engine
	made bool
}

func (d doubtful) Update(ctx context.Context, fn func(writer) error) error {
	var failed error
	err := d.engine.Update(ctx, func(w writer) error {
		if err := fn(w); err != nil {
			return err
		}
		if failed = errIO; !d.made {
			return failed
		}
		return nil
	})
	return errors.Join(err, failed)
}

var errIO = errors.New("input/output error")

func TestSubscribersAreToldWhatBecameOfACommitThatFailed(t *testing.T) {
	ctx := t.Context()
	token := attache.AccessToken{Integration: "bot", ID: "old", Hash: attache.TokenHash{1}}
	for sentence, act := range map[string]func(*Store) error{
		"an integration that is made":    func(s *Store) error { return s.CreateIntegration(ctx, attache.Integration{Name: "new"}) },
		"an integration that is deleted": func(s *Store) error { return s.DeleteIntegration(ctx, "bot") },
		"a token that is made": func(s *Store) error {
			return s.CreateAccessToken(ctx, attache.AccessToken{Integration: "bot", ID: "new", Hash: attache.TokenHash{2}})
		},
		"a token that is deleted":      func(s *Store) error { return s.DeleteAccessToken(ctx, "bot", "old") },
		"a client that is made":        func(s *Store) error { return s.CreateOAuthClient(ctx, oauthClient("bot", "new")) },
		"a client that is deleted":     func(s *Store) error { return s.DeleteOAuthClient(ctx, "bot", "unused") },
		"a connection that is made":    func(s *Store) error { return s.CreateConnection(ctx, apiKey("bot", "new", "secret")) },
		"a connection that is deleted": func(s *Store) error { return deleteConnection(ctx, s, "bot", "key") },
		"a credential that is replaced": func(s *Store) error {
			return s.UpdateConnection(ctx, "bot", "key", func(c *attache.Connection) error {
				c.Credential.APIKey = secret.New("second")
				return nil
			})
		},
		"a grant that is refreshed": func(s *Store) error {
			return s.UpdateGrant(ctx, "bot", "granted", func(g *attache.Grant) error {
				g.AccessToken = secret.New("token")
				return nil
			})
		},
	} {
		for _, made := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, written %t", sentence, made), func(t *testing.T) {
				s, err := Open(ctx, Options{Dir: t.TempDir()})
				must(t, err)
				defer func() { must(t, s.Close()) }()
				must(t, s.CreateIntegration(ctx, attache.Integration{Name: "bot"}))
				must(t, s.CreateAccessToken(ctx, token))
				must(t, s.CreateOAuthClient(ctx, oauthClient("bot", "unused")))
				must(t, s.CreateOAuthClient(ctx, oauthClient("bot", "client")))
				must(t, s.CreateConnection(ctx, apiKey("bot", "key", "first")))
				must(t, s.CreateConnection(ctx, oauth("bot", "granted")))
				before, early, late := mirror{}, mirror{}, mirror{}
				_, err = s.Subscribe(ctx, before.apply)
				must(t, err)
				before = maps.Clone(before)
				_, err = s.Subscribe(ctx, early.apply)
				must(t, err)

				real := s.engine
				s.engine = doubtful{real, made}
				wantError(t, act(s), errIO)
				s.engine = real

				_, err = s.Subscribe(ctx, late.apply)
				must(t, err)
				if maps.Equal(before, late) == made {
					t.Errorf("what is there: %v", late)
				}
				if diff := cmp.Diff(late, early); diff != "" {
					t.Errorf("what was told (-is there +told):\n%s", diff)
				}
			})
		}
	}
}
