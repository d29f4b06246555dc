// Package oauth gets tokens from OAuth 2.0 providers and keeps them alive.
//
// It has three parts, each usable without the next:
//
//   - An [Endpoint] makes the calls: discovery, the exchange of a code, device
//     codes, refresh, client credentials, revocation. A [Client] is one OAuth
//     client as one connection uses it. Answers are parsed strictly, and an
//     [Error] says what kind of failure it was, never what the provider wrote.
//   - A [Keeper] owns the life of every grant: it refreshes before tokens
//     expire, in the background, and lets requests join a refresh under way.
//   - [Flows] lead a person through an authorization, with a browser or a
//     device code, and hand the keeper what comes out.
//
// # Refresh that cannot lose a grant
//
// Many providers rotate refresh tokens, and revoke the whole grant when one is
// spent twice. So the order is: the intent to spend one is on disk, then it is
// sent, then the answer is on disk, and only then is it used. A process that
// dies in between finds the intent, tries once more, and otherwise asks for a
// person with [CodeInterrupted]. No request's context reaches a refresh, one
// connection has one refresh at a time, and whatever else is wrong with an
// answer, a refresh token in it is kept.
//
// # An export that cannot lose one either
//
// A grant that moves to another machine must be spent by one of the two alone,
// whatever dies on the way. So the transaction that gives it away is the one that
// takes it from the refreshes here, and there is none while a refresh token is
// being spent. What was given away is held back, where nothing can use it, until
// it is known to be safe; until then it can be given away again, as the same move,
// and a store imports a move once.
package oauth

import (
	"context"

	"attache"
)

// Storage is where connections, OAuth clients and grants are kept.
//
// Each write of UpdateGrant is one transaction, on disk when it returns nil, and
// told to [Keeper.Changed] before it returns, also where the disk failed at the end
// and it was made all the same. update gets the grant as it is, or
// one without a token where there is none; it may be called more than once, and
// its error is returned as it is with nothing written. What does not exist is
// [attache.ErrNotFound].
type Storage interface {
	Connection(ctx context.Context, integration, name string) (attache.Connection, error)
	OAuthClient(ctx context.Context, integration, name string) (attache.OAuthClient, error)
	UpdateGrant(ctx context.Context, integration, name string, update func(*attache.Grant) error) error
	// ImportConnection stores a connection, its grant, and its OAuth client where
	// that is not there, in one transaction. A move that was imported before is
	// [attache.ErrReplayed]; an empty one is a copy.
	ImportConnection(ctx context.Context, move string, client attache.OAuthClient, c attache.Connection) error
}
