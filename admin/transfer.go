package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"attache"
	"attache/oauth"
	"attache/secret"
)

// The way of a connection from one machine to another (rule F4). What leaves is
// encrypted here, to whom the request says, so that no answer holds a secret.

// ExportRequest exports a connection.
type ExportRequest struct {
	Mode       oauth.Mode  `json:"mode" enum:"move,copy" doc:"move: the connection stops here, at once and for good. copy: it goes on here as well."`
	Force      bool        `json:"force,omitempty" doc:"Copy although the provider replaces the refresh token at each use, or may."`
	Recipients []string    `json:"recipients,omitempty" nullable:"false" doc:"Public keys of age whose owners can open the file." example:"[\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]"`
	Passphrase secret.Text `json:"passphrase,omitzero" doc:"In place of recipients: what opens the file, at least 12 characters." format:"password"`
}

// ExportConnection exports a connection.
type ExportConnection struct {
	ConnectionPath
	WithBody[ExportRequest]
}

// ConnectionExport is a connection that was exported.
type ConnectionExport struct {
	ExportID   string     `json:"export_id" doc:"Names it; with move, for the confirmation." example:"5MNJ3HBN2PM4ZQXBRYXX5A2QKU"`
	Mode       oauth.Mode `json:"mode" enum:"move,copy" doc:"As asked for."`
	ExportedAt time.Time  `json:"exported_at" doc:"When. A move that is repeated says when it began."`
	File       string     `json:"file" doc:"An age file, armored. In it is a document as docs/connection-export.schema.json describes it."`
}

// MoveConfirmation says that the file of a move is safe.
type MoveConfirmation struct {
	ExportID string `json:"export_id" doc:"Of the export." example:"5MNJ3HBN2PM4ZQXBRYXX5A2QKU"`
}

// ConfirmMove confirms a move.
type ConfirmMove struct {
	ConnectionPath
	WithBody[MoveConfirmation]
}

// ImportRequest imports a connection.
type ImportRequest struct {
	File       string      `json:"file" doc:"The age file, armored."`
	Identity   secret.Text `json:"identity,omitzero" doc:"What opens it: the content of a file as age-keygen writes it." format:"password"`
	Passphrase secret.Text `json:"passphrase,omitzero" doc:"In place of an identity: the passphrase." format:"password"`
}

// ImportConnection imports a connection.
type ImportConnection struct {
	IntegrationPath
	WithBody[ImportRequest]
}

func (a *API) transfers(api huma.API) {
	const tag, all = "oauth", "/integrations/{integration}/connections/oauth"
	register(a, api, route{
		method: http.MethodPost, path: all + "/{name}/export", id: "export-connection", tag: tag, role: attache.RoleAdmin,
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable}, summary: "Export a connection as an encrypted file",
		text: "Answers with the connection, its grant and its OAuth client, encrypted. With move, nothing of the connection is refreshed or sent any more from before the answer on; " +
			"confirm the move once the file is safe. Until then the same move can be exported again, so that no grant is lost with an answer. " +
			"A copy of a refresh token that the provider replaces at each use, or may, needs force.",
		example: map[string]any{"mode": "move", "passphrase": "THE-PASSPHRASE"},
	}, a.exportConnection)
	register(a, api, route{
		method: http.MethodPost, path: all + "/{name}/export/confirm", id: "confirm-move", tag: tag, role: attache.RoleAdmin,
		errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}, summary: "Confirm that the file of a move is safe",
		text: "Forgets the grant that was held back, and shows the connection. From then on the file is all there is.",
	}, a.confirmMove)
	register(a, api, route{
		method: http.MethodPost, path: all + "/import", id: "import-connection", tag: tag, role: attache.RoleAdmin,
		status: http.StatusCreated, errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
		summary: "Import a connection that was exported elsewhere",
		text: "Makes the connection and, where the integration has none of that name, its OAuth client; one that it has must be the same. " +
			"The grant is refreshed from then on. A move is imported once only, even if what came of it was deleted.",
		example: map[string]string{"file": "-----BEGIN AGE ENCRYPTED FILE-----\n...", "passphrase": "THE-PASSPHRASE"},
	}, a.importConnection)
}

// keeper is that of the options.
func (a *API) keeper() (*oauth.Keeper, error) {
	if a.OAuth.Keeper == nil {
		return nil, fail(CodeOAuthOff, "Use a server that runs: attache serve.")
	}
	return a.OAuth.Keeper, nil
}

// stretch waits until nobody else stretches a passphrase, which takes much memory,
// if that is needed. What done does must be done afterwards.
func (a *API) stretch(ctx context.Context, needed bool) (done func(), err error) {
	if !needed {
		return func() {}, nil
	}
	select {
	case a.stretching <- struct{}{}:
		return func() { <-a.stretching }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// oneOf refuses a request that opens or locks with both, or with neither.
func oneOf(passphrase secret.Text, other bool, field string) error {
	if passphrase.IsZero() != other {
		return &attache.FieldError{Field: "passphrase", Rule: "and " + field + " exclude each other, and one is needed", Remedy: "give one of them"}
	}
	return nil
}

func (r ExportRequest) lock() (oauth.Lock, error) {
	if err := oneOf(r.Passphrase, len(r.Recipients) > 0, "recipients"); err != nil {
		return oauth.Lock{}, err
	}
	if r.Passphrase.IsZero() {
		return oauth.RecipientLock(r.Recipients)
	}
	return oauth.PassphraseLock(r.Passphrase)
}

func (r ImportRequest) key() (oauth.Key, error) {
	if err := oneOf(r.Passphrase, !r.Identity.IsZero(), "identity"); err != nil {
		return oauth.Key{}, err
	}
	if r.Passphrase.IsZero() {
		return oauth.IdentityKey(r.Identity)
	}
	return oauth.PassphraseKey(r.Passphrase)
}

func (a *API) exportConnection(ctx context.Context, in *ExportConnection) (*Answer[ConnectionExport], error) {
	keeper, err := a.keeper()
	if err != nil {
		return nil, err
	}
	ask := in.Body.value
	lock, err := ask.lock()
	switch {
	case err != nil:
		return nil, err
	case ask.Mode != oauth.ModeMove && ask.Mode != oauth.ModeCopy:
		return nil, &attache.FieldError{Field: "mode", Rule: "must be move or copy"}
	case ask.Mode == oauth.ModeMove && ask.Force:
		return nil, &attache.FieldError{Field: "force", Rule: "is only for mode copy", Remedy: "leave it out"}
	}
	// What can fail comes before the connection is moved.
	done, err := a.stretch(ctx, lock.Stretches())
	if err != nil {
		return nil, err
	}
	defer done()
	e, err := keeper.Export(ctx, oauth.ExportRequest{Integration: in.Integration, Connection: in.Name, Mode: ask.Mode, Force: ask.Force})
	if err != nil {
		return nil, err
	}
	document, err := a.writeDocument(e)
	if err != nil {
		return nil, err
	}
	file, err := lock.Close(document)
	if err != nil {
		return nil, err
	}
	return answer(ConnectionExport{e.ID, e.Mode, e.At.UTC().Truncate(time.Second), file}), nil
}

func (a *API) confirmMove(ctx context.Context, in *ConfirmMove) (*Answer[OAuthConnection], error) {
	keeper, err := a.keeper()
	if err != nil {
		return nil, err
	}
	if err := keeper.ConfirmMove(ctx, in.Integration, in.Name, in.Body.value.ExportID); err != nil {
		return nil, err
	}
	c, err := a.connection(ctx, in.ConnectionPath, attache.OAuth)
	if err != nil {
		return nil, err
	}
	return answer(showOAuth(c)), nil
}

func (a *API) importConnection(ctx context.Context, in *ImportConnection) (*Created[OAuthConnection], error) {
	keeper, err := a.keeper()
	if err != nil {
		return nil, err
	}
	ask := in.Body.value
	key, err := ask.key()
	if err != nil {
		return nil, err
	}
	e, err := a.open(ctx, key, ask.File)
	if err != nil {
		return nil, err
	}
	for _, of := range []*string{&e.Client.Integration, &e.Connection.Integration} {
		*of = in.Integration
	}
	for _, at := range []*time.Time{&e.Client.CreatedAt, &e.Client.UpdatedAt, &e.Connection.CreatedAt, &e.Connection.UpdatedAt} {
		*at = now()
	}
	err = keeper.Import(ctx, e)
	switch {
	case errors.Is(err, attache.ErrReplayed):
		return nil, fail(CodeReplayed, "A move is imported once only: its grant is in use, or was. Export the connection again where it is now.")
	case errors.Is(err, attache.ErrExists):
		return nil, fail(CodeExists, "The integration has a connection "+e.Connection.Name+": delete it first, or import into another integration.")
	case err != nil:
		return nil, err
	}
	return &Created[OAuthConnection]{at(e.Connection), showOAuth(e.Connection)}, nil
}

// open opens a file and reads the export in it.
func (a *API) open(ctx context.Context, key oauth.Key, file string) (e oauth.Export, err error) {
	done, err := a.stretch(ctx, key.Stretches())
	if err != nil {
		return e, err
	}
	defer done()
	document, err := key.Open(file)
	if err != nil {
		return e, err
	}
	err = document.Check(func(text string) (err error) {
		e, err = readDocument(text)
		return err
	})
	if err == nil && a.OAuth.Endpoint != nil {
		err = within("oauth_client", a.OAuth.Endpoint.CheckClient(e.Client))
	}
	return e, err
}
