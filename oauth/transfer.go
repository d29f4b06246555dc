package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"attache"
)

// Mode says what an export leaves behind (rule F4).
type Mode string

// The modes.
const (
	ModeMove Mode = "move" // nothing: the connection stops here, and goes on elsewhere
	ModeCopy Mode = "copy" // the connection as it is
)

var (
	// ErrNotExportable: there is no grant that could be given away. What follows says
	// why, and what to do. The API answers 409.
	ErrNotExportable = errors.New("the connection cannot be exported")
	// ErrUnknownMove: no move of that ID waits to be confirmed. The API answers 404.
	ErrUnknownMove = errors.New("no move of the connection has that ID")

	errUnderWay = errors.New("a refresh is under way")
)

// Export is a connection on its way from one store to another, with everything
// that it needs there.
type Export struct {
	ID         string // of a move it is the same at each repetition
	Mode       Mode
	At         time.Time
	Client     attache.OAuthClient
	Connection attache.Connection // its grant is nil where it gets its own tokens (client_credentials)
}

// ExportRequest says what is to be exported, and how.
type ExportRequest struct {
	Integration string
	Connection  string
	Mode        Mode
	// Force copies a grant although its refresh token is one that the provider
	// replaces at each use, or may be.
	Force bool
}

// Export gives a connection away. Its grant is one that no refresh is spending:
// where one is under way, Export waits for it as long as ctx allows.
//
// With [ModeMove] the connection is moved before Export returns: from that
// transaction on nothing of it is refreshed or sent, through a crash as well. The
// grant is held back until [Keeper.ConfirmMove], and until then each further Export
// gives away the same move. With [ModeCopy] nothing changes here.
//
// That the grant is none to give away is [ErrNotExportable]; that a copy needs
// Force, an [attache.FieldError].
func (k *Keeper) Export(ctx context.Context, r ExportRequest) (Export, error) {
	id := key{r.Integration, r.Connection}
	for ended := false; ; {
		e, err := k.export(ctx, id, r)
		if !errors.Is(err, errUnderWay) {
			return e, err
		}
		f := k.flightOf(id)
		switch {
		case f == nil && !ended: // it has just ended, or was cut off: another look tells
			ended = true
			continue
		case f == nil:
			return Export{}, fmt.Errorf("%w: a refresh was cut off, and it is not known yet what became of its refresh token: "+
				"wait until the connection is active, while a server runs", ErrNotExportable)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Export{}, ctx.Err()
		}
	}
}

// flightOf is the flight of a connection, or nil.
func (k *Keeper) flightOf(id key) *flight {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.entries[id]; e != nil {
		return e.flight
	}
	return nil
}

func (k *Keeper) export(ctx context.Context, id key, r ExportRequest) (Export, error) {
	c, err := k.storage.Connection(ctx, id.integration, id.name)
	if err != nil {
		return Export{}, err
	}
	if c.Type != attache.OAuth {
		return Export{}, refuse("type", "is not oauth", "make the connection anew elsewhere: the credentials of other types never come out")
	}
	client, err := k.storage.OAuthClient(ctx, id.integration, c.OAuthClient)
	if err != nil {
		return Export{}, err
	}
	renewable := client.GrantType == attache.ClientCredentials
	e := Export{ID: rand.Text(), Mode: r.Mode, At: k.wall().UTC(), Client: client}
	if r.Mode == ModeMove {
		if c, err = k.move(ctx, id, attache.Move{ID: e.ID, At: e.At}, renewable); err != nil {
			return Export{}, err
		}
		e.ID, e.At, c.Grant = c.Grant.Move.ID, c.Grant.Move.At, c.Grant.Move.Held
	} else if err := k.copied(id, c.Grant, renewable, r.Force); err != nil {
		return Export{}, err
	}
	if renewable {
		c.Grant = nil
	}
	e.Connection = c
	return e, nil
}

// move makes the connection one that was moved, and returns it as it is then.
func (k *Keeper) move(ctx context.Context, id key, m attache.Move, renewable bool) (attache.Connection, error) {
	var before attache.GrantState
	var after attache.Grant
	err := k.storage.UpdateGrant(ctx, id.integration, id.name, func(g *attache.Grant) error {
		before = g.State
		if err := depart(g, m, renewable); err != nil {
			return err
		}
		after = *g
		return nil
	})
	if err != nil {
		return attache.Connection{}, err
	}
	if before != attache.GrantMoved {
		k.tell(id, before, after, 0)
	}
	c, err := k.storage.Connection(ctx, id.integration, id.name)
	if err == nil && (c.Grant == nil || c.Grant.Move == nil || c.Grant.Move.Held == nil) {
		err = fmt.Errorf("%w: it was authorized anew or confirmed meanwhile: begin again", ErrNotExportable)
	}
	return c, err
}

// copied tells of a copy, if there may be one.
func (k *Keeper) copied(id key, g *attache.Grant, renewable, force bool) error {
	if g == nil {
		g = &attache.Grant{State: attache.GrantPending}
	}
	if err := exportable(g, renewable); err != nil {
		return err
	}
	if !renewable && !force {
		if err := shareable(g); err != nil {
			return err
		}
	}
	told := *g
	told.ErrorCode = CodeCopied
	k.tell(id, g.State, told, 0)
	return nil
}

// ConfirmMove notes that what [Keeper.Export] gave away is where it cannot get
// lost. What was held back until then is forgotten, so that nobody can give away
// again what somebody else uses by now. Without such a move the error is
// [ErrUnknownMove].
func (k *Keeper) ConfirmMove(ctx context.Context, integration, connection, id string) error {
	var after attache.Grant
	err := k.storage.UpdateGrant(ctx, integration, connection, func(g *attache.Grant) error {
		if g.Move == nil || g.Move.ID != id {
			return ErrUnknownMove
		}
		g.ErrorCode, g.Move.Held = CodeMoved, nil
		after = *g
		return nil
	})
	if err == nil {
		k.tell(key{integration, connection}, attache.GrantMoved, after, 0)
	}
	return err
}

// Import stores what was exported elsewhere; from then on the keeper refreshes it.
// Integration, names and times are those that it is to have here. Whether it is fit
// to be stored, the caller has looked at. The errors are those of
// [Storage].ImportConnection.
func (k *Keeper) Import(ctx context.Context, e Export) error {
	move := ""
	if e.Mode == ModeMove {
		move = e.ID
	}
	if err := k.storage.ImportConnection(ctx, move, e.Client, e.Connection); err != nil {
		return err
	}
	g := attache.Grant{State: attache.GrantPending}
	if e.Connection.Grant != nil {
		g = *e.Connection.Grant
	}
	g.ErrorCode = CodeImported
	k.tell(key{e.Connection.Integration, e.Connection.Name}, attache.GrantPending, g, 0)
	return nil
}

// CheckGrant holds a grant that somebody brings against what those of providers
// keep to. The error joins one [attache.FieldError] for each thing that is wrong.
func CheckGrant(g *attache.Grant) error {
	var wrong []error
	check := func(ok bool, field, rule, remedy string) {
		if !ok {
			wrong = append(wrong, refuse(field, rule, remedy))
		}
	}
	const unsendable = "is no token that could be sent"
	check(!g.AccessToken.IsZero() && g.AccessToken.Check(isToken) == nil && g.AccessToken.Check(fitsHeader) == nil, "access_token", unsendable, "")
	check(g.RefreshToken.Check(isToken) == nil, "refresh_token", unsendable, "")
	check(utf8.RuneCountInString(g.Scope) <= maxScope && printable(g.Scope) == g.Scope, "scope",
		fmt.Sprintf("is longer than %d characters, or has others than printable ASCII", maxScope), "")
	life := g.ExpiresAt.Sub(g.IssuedAt)
	check(!g.IssuedAt.IsZero() && (g.ExpiresAt.IsZero() || 0 < life && life <= maxLife), "expires_at",
		"is not within ten years after issued_at", "leave it out where it is not known")
	known := []attache.Rotation{attache.RotationUnknown, attache.Rotates, attache.DoesNotRotate}
	check(slices.Contains(known, g.Rotation), "rotation", "must be yes or no", "leave it out where it is not known")
	return errors.Join(wrong...)
}
