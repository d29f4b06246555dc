package store

import (
	"context"
	"slices"
	"time"

	"attache"
	"attache/secret"
)

// Authority is a certificate authority of this installation.
type Authority struct {
	Certificate []byte      // DER
	Key         secret.Text // PKCS #8, PEM
	CreatedAt   time.Time
}

// Authorities returns the authorities, the newest first: that one signs. Before
// the first [Store.SaveAuthorities] there are none.
func (s *Store) Authorities(ctx context.Context) (all []Authority, err error) {
	err = s.view(ctx, func(v view) error {
		all, err = loadAuthorities(v)
		return err
	})
	return all, err
}

// SaveAuthorities replaces the authorities by these, in whatever order.
func (s *Store) SaveAuthorities(ctx context.Context, all []Authority) error {
	records := make([]authorityRecord, len(all))
	for i, a := range all {
		records[i] = newAuthorityRecord(a)
	}
	slices.SortStableFunc(records, func(a, b authorityRecord) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return s.update(ctx, func(c change) ([]attache.Change, error) {
		return nil, c.save(authorities, authoritySet, records)
	})
}

// loadAuthorities lists rather than looks up: were the one key damaged, the
// authorities would seem never to have been, and be made anew.
func loadAuthorities(v view) (all []Authority, err error) {
	for k, err := range loadAll[[]authorityRecord](v, authorities, "", "") {
		if err != nil {
			return nil, err
		}
		for _, r := range k.Record {
			all = append(all, r.authority())
		}
	}
	return all, nil
}
