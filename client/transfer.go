package client

import (
	"context"
	"net/http"
	"time"

	"attache"
	"attache/secret"
)

// ExportMode says what an export leaves behind.
type ExportMode string

// The modes.
const (
	Move ExportMode = "move" // nothing: the connection stops there, and goes on where it is imported
	Copy ExportMode = "copy" // the connection as it is
)

// Export is the request to export a connection of type oauth. Exactly one of
// Recipients and Passphrase is set.
type Export struct {
	Mode       ExportMode      `json:"mode"`
	Force      bool            `json:"force,omitempty"`      // copy a refresh token that only one machine can use
	Recipients []string        `json:"recipients,omitempty"` // public keys of age
	Passphrase secret.Outgoing `json:"passphrase,omitzero"`  // at least 12 characters
}

// Exported is a connection that was exported.
type Exported struct {
	ExportID   string     `json:"export_id"`
	Mode       ExportMode `json:"mode"`
	ExportedAt time.Time  `json:"exported_at"`
	File       string     `json:"file"` // an age file, armored
}

// Import is the request to import a connection. Exactly one of Identity and
// Passphrase is set.
type Import struct {
	File       string          `json:"file"`                // an age file, armored
	Identity   secret.Outgoing `json:"identity,omitzero"`   // what age-keygen wrote
	Passphrase secret.Outgoing `json:"passphrase,omitzero"` // that it was exported with
}

// ExportConnection exports a connection. One that is moved is given up before the
// server answers; [Client.ConfirmMove] when its file is safe. Until then the same
// move can be exported again.
func (c *Client) ExportConnection(ctx context.Context, integration, name string, in Export) (Exported, error) {
	return call[Exported](ctx, c.patient(), http.MethodPost, in, at(integration, attache.OAuth, name, "export")...)
}

// ConfirmMove makes the server forget what it held back of a move. It shows the
// connection as it is then.
func (c *Client) ConfirmMove(ctx context.Context, integration, name, exportID string) (Connection, error) {
	in := struct {
		ExportID string `json:"export_id"`
	}{exportID}
	return call[Connection](ctx, c, http.MethodPost, in, at(integration, attache.OAuth, name, "export", "confirm")...)
}

// ImportConnection imports a connection with its grant, and its OAuth client where
// the integration has none of that name.
func (c *Client) ImportConnection(ctx context.Context, integration string, in Import) (Connection, error) {
	return call[Connection](ctx, c.patient(), http.MethodPost, in, at(integration, attache.OAuth, "import")...)
}
