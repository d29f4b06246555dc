package admin

import (
	"context"
	"encoding/base64"
	"iter"
	"strings"

	"attache"
)

// Page is the part of a query that asks for a page, as the integration service
// does it.
type Page struct {
	Size  int    `query:"page[size]" minimum:"1" maximum:"100" default:"100" doc:"How many connections at most."`
	After string `query:"page[after]" doc:"meta.after_cursor of the page before; absent: the first page."`
}

// Meta is where a page is among the others.
type Meta struct {
	HasMore     bool   `json:"has_more" doc:"Whether there is another page."`
	AfterCursor string `json:"after_cursor" doc:"What the next page is asked for with; empty on the last page."`
}

const (
	maxPage      = 100
	cursorPrefix = "1:" // the version of what a cursor holds: the last name
)

func cursorAfter(name string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorPrefix + name))
}

func (p Page) afterName() (string, error) {
	if p.After == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.After)
	name, ok := strings.CutPrefix(string(b), cursorPrefix)
	if err != nil || !ok {
		return "", &attache.FieldError{Field: "page[after]", Rule: "is no cursor of this API", Remedy: "pass meta.after_cursor of the page before"}
	}
	return name, nil
}

// page is one page of an integration's connections, of the one type if there is
// one. A cursor stays good when what it points at is deleted.
func (a *API) page(ctx context.Context, in *ConnectionsPath, only attache.ConnectionType) ([]attache.Connection, Meta, error) {
	after, err := in.afterName()
	if err != nil {
		return nil, Meta{}, err
	}
	var page []attache.Connection
	for c, err := range a.connectionsAfter(ctx, in.Integration, after) {
		if err != nil {
			return nil, Meta{}, err
		}
		if only != "" && c.Type != only {
			continue
		}
		if len(page) == in.Size {
			return page, Meta{HasMore: true, AfterCursor: cursorAfter(page[len(page)-1].Name)}, nil
		}
		page = append(page, c)
	}
	return page, Meta{}, nil
}

// connectionsAfter is every connection of an integration after a name, by name.
func (a *API) connectionsAfter(ctx context.Context, integration, after string) iter.Seq2[attache.Connection, error] {
	return func(yield func(attache.Connection, error) bool) {
		for more := true; more; {
			page, next, err := a.Store.Connections(ctx, integration, after, maxPage+1)
			if err != nil {
				yield(attache.Connection{}, err)
				return
			}
			for _, c := range page {
				if !yield(c, nil) {
					return
				}
				after = c.Name
			}
			more = next && len(page) > 0
		}
	}
}
