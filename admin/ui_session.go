package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"attache"
)

const (
	sessionCookie = "attache_session"
	sessionLife   = 12 * time.Hour // from the sign-in
	sessionIdle   = time.Hour      // from the last page
	maxSessions   = 256
)

// sessions are those who are signed in. They are gone with the process. The zero
// value is ready to use, by many goroutines.
type sessions struct {
	mu sync.Mutex
	// by is guarded by mu; it has at most maxSessions elements. The key is a hash
	// of the id, so that how long a look-up takes tells nothing about ids.
	by map[[sha256.Size]byte]session
}

// session is somebody who signed in with a token. The token itself is not kept.
type session struct {
	token       attache.TokenHash
	began, seen time.Time
}

func (s session) over(now time.Time) bool {
	return now.Sub(s.began) >= sessionLife || now.Sub(s.seen) >= sessionIdle
}

// begin makes a session and returns its id, which nobody can guess. Where there
// are too many, the one that was seen longest ago ends.
func (all *sessions) begin(token attache.TokenHash, now time.Time) (id string) {
	id = rand.Text()
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.by == nil {
		all.by = map[[sha256.Size]byte]session{}
	}
	var oldest [sha256.Size]byte
	for key, s := range all.by {
		if s.over(now) {
			delete(all.by, key)
		} else if o, ok := all.by[oldest]; !ok || s.seen.Before(o.seen) {
			oldest = key
		}
	}
	if len(all.by) >= maxSessions {
		delete(all.by, oldest)
	}
	all.by[sha256.Sum256([]byte(id))] = session{token: token, began: now, seen: now}
	return id
}

// token is the token that the session was begun with.
func (all *sessions) token(id string, now time.Time) (attache.TokenHash, bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	s, ok := all.by[sha256.Sum256([]byte(id))]
	return s.token, ok && !s.over(now)
}

// touch keeps the session from being idle.
func (all *sessions) touch(id string, now time.Time) {
	all.mu.Lock()
	defer all.mu.Unlock()
	key := sha256.Sum256([]byte(id))
	if s, ok := all.by[key]; ok && !s.over(now) {
		s.seen = now
		all.by[key] = s
	}
}

func (all *sessions) end(id string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.by, sha256.Sum256([]byte(id)))
}

// sessionID is the id that the request brings, or empty, which no session has.
func sessionID(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// visitor is who is signed in; the zero caller where nobody is. A session is
// worth what its token is worth now, so it ends when that is revoked or expires.
func (u *ui) visitor(r *http.Request) (caller, error) {
	hash, ok := u.sessions.token(sessionID(r), time.Now())
	if !ok {
		return caller{}, nil
	}
	t, err := u.Store.AdminToken(r.Context(), hash)
	switch c := callerOf(t); {
	case err != nil && !errors.Is(err, attache.ErrNotFound):
		return caller{}, err
	case err != nil, t.Expired(time.Now()), !c.may(attache.RoleViewer):
		u.sessions.end(sessionID(r))
		return caller{}, nil
	default:
		return c, nil
	}
}

func (u *ui) askToken(w http.ResponseWriter, r *http.Request) {
	c, err := u.visitor(r)
	switch {
	case err != nil:
		u.fail(w, r, err)
	case c != caller{}:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	default:
		u.write(w, r, page{name: "sign-in", Title: "Sign in"})
	}
}

// signIn takes an admin token for a session. A failed attempt counts like one at
// the API.
func (u *ui) signIn(w http.ResponseWriter, r *http.Request) {
	t, f := u.tokenOf(r, strings.TrimSpace(r.PostFormValue("token")))
	if f != nil {
		u.failOn(w, r, f, page{name: "sign-in", Title: "Sign in"})
		return
	}
	u.sessions.end(sessionID(r))
	setSession(w, r, u.sessions.begin(t.Hash, time.Now()), sessionLife)
	u.Logger.InfoContext(r.Context(), "admin signed in", "client", r.RemoteAddr, "by", t.ID)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (u *ui) signOut(w http.ResponseWriter, r *http.Request) {
	u.sessions.end(sessionID(r))
	setSession(w, r, "", 0)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// setSession gives the browser the cookie of a session, or takes it away where
// there is no id. The cookie is for TLS alone where the page came over TLS, also
// where a reverse proxy ended it: then the browser says so in Origin.
func setSession(w http.ResponseWriter, r *http.Request, id string, life time.Duration) {
	c := &http.Cookie{
		Name: sessionCookie, Value: id, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	}
	if id == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
