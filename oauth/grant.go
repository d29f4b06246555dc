package oauth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
	"unicode/utf8"

	"attache"
)

const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
	maxBackoff = maxRetryAfter + maxRetryAfter/10 + time.Second
)

// What follows is every change that a grant can go through; there is no I/O.

// crashed tells whether the process ended between the spending of a refresh
// token and the storing of what came back. Whose flight it is must be known not
// to be under way.
func crashed(g *attache.Grant) bool { return g.Intent != nil && g.State == attache.GrantRefreshing }

// intend notes that the refresh token is about to be spent. After a crash that
// happens once more, for the provider may not have seen it; but not twice.
func intend(g *attache.Grant, now time.Time) error {
	recovers := crashed(g)
	if recovers && g.Intent.Recovered {
		return &Error{Kind: GrantRefused, Code: CodeInterrupted, Unsent: true}
	}
	g.State, g.RetryAt = attache.GrantRefreshing, time.Time{}
	g.Intent = &attache.Intent{Generation: g.Generation, At: now, Recovered: recovers}
	return nil
}

// accept puts a new token in the place of the old one. What the answer does not
// say stays as it was (RFC 6749, sections 5.1 and 6); asked is the scope that
// was asked for, where there is none to keep.
func accept(g *attache.Grant, t Token, asked string) error {
	scope := t.Scope
	if scope == "" {
		scope = g.Scope
	}
	if scope == "" {
		scope = printable(asked)
	}
	if utf8.RuneCountInString(scope) > maxScope {
		return &Error{Kind: ClientRefused, Code: CodeScopeTooLong, Status: http.StatusOK}
	}
	rotation := rotationAfter(g, t)
	refresh := t.Refresh
	if refresh.IsZero() {
		refresh = g.RefreshToken
	}
	*g = attache.Grant{
		State:        attache.GrantActive,
		AccessToken:  t.Access,
		RefreshToken: refresh,
		TokenType:    t.Type,
		Scope:        scope,
		IssuedAt:     t.Issued.Round(0),
		ExpiresAt:    t.Expires.Round(0),
		Generation:   g.Generation + 1,
		Rotation:     rotation,
	}
	return nil
}

// rotationAfter is what is known of the refresh token's rotation after it was
// spent: one that was seen to be replaced once is taken to be replaced always.
func rotationAfter(g *attache.Grant, t Token) attache.Rotation {
	switch {
	case g.RefreshToken.IsZero():
		return attache.RotationUnknown
	case g.Rotation == attache.Rotates, !t.Refresh.IsZero() && !t.Refresh.Equal(g.RefreshToken):
		return attache.Rotates
	}
	return attache.DoesNotRotate
}

// replace puts a grant that a person has just given in the place of whatever was
// there. Nothing of the old one stays but the count of its tokens.
func replace(g *attache.Grant, t Token, asked string) error {
	fresh := attache.Grant{Generation: g.Generation}
	if err := accept(&fresh, t, asked); err != nil {
		return err
	}
	*g = fresh
	return nil
}

// reject notes a failure. doubt says whether the refresh token may have been
// spent by an earlier attempt already. What is left is used while it lives.
func reject(g *attache.Grant, t Token, err error, now time.Time, doubt bool) {
	failed := asError(err)
	g.ErrorCode = failed.Code
	g.Failures++
	g.RetryAt = time.Time{}
	switch {
	case !t.Refresh.IsZero():
		// Refused or not, the answer says what comes next.
		g.Rotation = rotationAfter(g, t)
		g.RefreshToken, g.Intent = t.Refresh, nil
	case failed.settled() && !doubt:
		g.Intent = nil
	}
	switch failed.Kind {
	case GrantRefused:
		g.State = attache.GrantNeedsReauth
		g.Intent = nil
		if doubt {
			g.ErrorCode = CodeInterrupted
		}
	case ClientRefused:
		g.State = attache.GrantConfigError
	default:
		g.State = attache.GrantRetrying
		g.RetryAt = now.Add(backoff(g.Failures, failed.RetryAfter))
	}
}

// exportable fails where there is no grant to give away, or a refresh token that
// may be spent already. A renewable one needs none: its client gets its tokens.
func exportable(g *attache.Grant, renewable bool) error {
	const authorize = ": authorize it first, here or on the other machine"
	switch {
	case g.State == attache.GrantMoved && g.Move.Held != nil:
		return fmt.Errorf("%w: it is being moved to another machine: repeat the move, or delete the connection", ErrNotExportable)
	case g.State == attache.GrantMoved:
		return fmt.Errorf("%w: it was moved to another machine, and nothing of it is left here: export it there", ErrNotExportable)
	case g.Intent != nil:
		return errUnderWay
	case renewable:
		return nil
	case g.State == attache.GrantPending:
		return fmt.Errorf("%w: nobody has authorized it"+authorize, ErrNotExportable)
	case g.State == attache.GrantNeedsReauth:
		return fmt.Errorf("%w: the provider no longer accepts its grant"+authorize, ErrNotExportable)
	}
	return nil
}

// depart turns a grant into one that was moved and holds back what it was. One that
// is held back already stays as it is.
func depart(g *attache.Grant, m attache.Move, renewable bool) error {
	if g.Move != nil && g.Move.Held != nil {
		return nil
	}
	if err := exportable(g, renewable); err != nil {
		return err
	}
	held := *g
	m.Held = &held
	*g = attache.Grant{State: attache.GrantMoved, Scope: held.Scope, Generation: held.Generation, ErrorCode: CodeMoveUnconfirmed, Move: &m}
	return nil
}

// shareable fails where two machines with the same refresh token would spend it
// twice, as far as that is known.
func shareable(g *attache.Grant) error {
	const field, remedy = "force", "use mode move; or set force, and know that many providers then refuse both"
	switch {
	case g.RefreshToken.IsZero() || g.Rotation == attache.DoesNotRotate:
		return nil
	case g.Rotation == attache.Rotates:
		return refuse(field, "is needed: the provider replaces the refresh token at each use, so two machines cannot share it", remedy)
	}
	return refuse(field, "is needed: whether the provider replaces the refresh token at each use is not known before the first refresh", remedy)
}

// backoff is how long to wait after so many failures: what the provider asked
// for, and a little more, so that not everybody comes back at once; or else
// anything up to a bound that doubles ("full jitter").
func backoff(failures int, asked time.Duration) time.Duration {
	if asked > 0 {
		return asked + rand.N(asked/10+time.Second)
	}
	bound := min(firstRetry<<min(failures-1, 10), lastRetry)
	return max(rand.N(bound), time.Second)
}

// asError is a failure as an [Error], whatever it was.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var field *attache.FieldError
	switch {
	case errors.As(err, &field):
		return &Error{Kind: ClientRefused, Code: CodeClientInvalid, Unsent: true}
	case errors.Is(err, attache.ErrNotFound):
		return &Error{Kind: ClientRefused, Code: CodeClientMissing, Unsent: true}
	}
	return &Error{Kind: TryLater, Code: CodeStorage, Unsent: true}
}

// stateError is why a grant gives no token.
func stateError(g *attache.Grant) *StateError {
	if g == nil || g.State == attache.GrantPending {
		return &StateError{State: attache.GrantPending, Code: CodeNotAuthorized}
	}
	return &StateError{State: g.State, Code: g.ErrorCode, RetryAt: g.RetryAt}
}
