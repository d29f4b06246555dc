package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attache"
	"attache/admin"
	"attache/secret"
)

// authorized stores connections of the integration "bot" with tokens, as many as
// are asked for, and returns the refresh tokens.
func (s *oauthServer) authorized(n int) (tokens []string) {
	s.t.Helper()
	for i := range n {
		token := fmt.Sprintf("refresh-7b1f-of-%d", i)
		must(s.t, s.store.CreateConnection(s.t.Context(), attache.Connection{
			Integration: "bot", Name: fmt.Sprintf("one-%d", i), Type: attache.OAuth, OAuthClient: "crm",
			AllowedDomain: "api.example.com", AllowedPorts: []uint16{443},
			Grant: &attache.Grant{State: attache.GrantNeedsReauth, RefreshToken: secret.New(token), Generation: 1},
		}))
		tokens = append(tokens, token)
	}
	slices.Sort(tokens)
	return tokens
}

// inBackground runs what answers do not wait for until the test ends.
func inBackground(t testing.TB) func(func(context.Context)) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		stop()
		tasks.Wait()
	})
	return func(task func(context.Context)) { tasks.Go(func() { task(ctx) }) }
}

func TestTheGrantsOfADeletedIntegrationAreRevoked(t *testing.T) {
	for sentence, later := range map[string]func(func(context.Context)){
		"in the background":                   inBackground(t),
		"before the answer, without a server": nil,
	} {
		t.Run(sentence, func(t *testing.T) {
			s := startOAuthWith(t, func(o *admin.Options) { o.Later = later })
			tokens := s.authorized(30) // and one that nobody has authorized
			must(t, s.client().DeleteIntegration(t.Context(), "bot"))
			if later == nil && len(s.provider.revocations()) != len(tokens) {
				t.Errorf("the provider has been told of %d when the answer comes", len(s.provider.revocations()))
			}
			eventually(t, "every grant is revoked", func() bool {
				revoked := s.provider.revocations()
				slices.Sort(revoked)
				return slices.Equal(revoked, tokens)
			})
			eventually(t, "the log says so", func() bool {
				return strings.Contains(s.log.String(), `"msg":"grants revoked","integration":"bot","grants":30}`)
			})
			leaks(t, "the log", s.log.String())
		})
	}
}

// neverAnswers waits until nobody does any more. An answer then might still be
// read, since the client of a TLS connection says goodbye before it is gone.
func neverAnswers(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func TestAProviderDoesNotKeepAnIntegrationFromBeingDeleted(t *testing.T) {
	for sentence, test := range map[string]struct {
		outage bool
		next   http.HandlerFunc
		says   string
	}{
		"when it is down":         {true, nil, `"grants":1,"failed":1,"error":"the provider's answer: temporarily_unavailable"`},
		"when it does not answer": {false, neverAnswers, `"grants":1,"failed":1,"error":`},
	} {
		t.Run(sentence, func(t *testing.T) {
			var tasks []func(context.Context)
			s := startOAuthWith(t, func(o *admin.Options) {
				o.Later = func(task func(context.Context)) { tasks = append(tasks, task) }
			})
			s.authorized(1)
			s.provider.fails(test.outage)
			s.provider.revokes(test.next)
			must(t, s.client().DeleteIntegration(t.Context(), "bot"))
			if _, err := s.client().Integration(t.Context(), "bot"); !errors.Is(err, attache.ErrNotFound) || len(tasks) != 1 {
				t.Fatalf("it is still there, or %d tasks are left to do: %v", len(tasks), err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			tasks[0](ctx)
			if !strings.Contains(s.log.String(), test.says) {
				t.Errorf("the log does not say %s: %s", test.says, s.log)
			}
			leaks(t, "the log", s.log.String())
		})
	}
}

func TestAnIntegrationWithNothingToRevokeLeavesNothingToDo(t *testing.T) {
	s := startOAuthWith(t, func(o *admin.Options) {
		o.Later = func(func(context.Context)) { t.Error("there is something left to do") }
	})
	must(t, s.client().DeleteIntegration(t.Context(), "bot"))
	if err := s.client().DeleteIntegration(t.Context(), "bot"); !errors.Is(err, attache.ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
}
