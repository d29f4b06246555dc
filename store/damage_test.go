package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"attache"
	"attache/secret"
)

// A specimen is a small database with something of everything, and deletions
// behind it, so that there are free pages too.
type specimen struct {
	dir, path string
	image     []byte   // the file
	content   contents // what is in it
}

type contents struct {
	Integrations []attache.Integration
	OAuthClients []attache.OAuthClient
	Connections  []attache.Connection
	AccessTokens []attache.AccessToken
	AdminTokens  []attache.AdminToken
	Authorities  []Authority
}

func newSpecimen(t *testing.T) specimen {
	t.Helper()
	ctx := t.Context()
	d := specimen{dir: t.TempDir()}
	d.path = filepath.Join(d.dir, databaseFile)
	s, err := Open(ctx, Options{Dir: d.dir})
	must(t, err)
	for i := range 3 {
		bot := fmt.Sprint("bot", i)
		must(t, s.CreateIntegration(ctx, attache.Integration{Name: bot, CreatedAt: created}))
		must(t, s.CreateAccessToken(ctx, accessToken(bot, "c1")))
		for j := range 10 {
			must(t, s.CreateConnection(ctx, apiKey(bot, fmt.Sprint("c", j), fmt.Sprint("key", i, j))))
		}
		must(t, s.CreateOAuthClient(ctx, oauthClient(bot, "client")))
		for j := range 3 {
			must(t, s.CreateConnection(ctx, authorized(bot, fmt.Sprint("o", j), j)))
		}
	}
	must(t, s.DeleteIntegration(ctx, "bot2"))
	must(t, s.CreateAdminToken(ctx, attache.AdminToken{ID: "a", Role: attache.RoleViewer, Hash: attache.TokenHash{9}}))
	must(t, s.SaveAuthorities(ctx, []Authority{{Certificate: []byte("DER"), Key: secret.New("PEM"), CreatedAt: created}}))
	d.content, err = read(t, s)
	must(t, errors.Join(err, s.Close()))
	d.image, err = os.ReadFile(d.path)
	must(t, err)
	return d
}

// read returns all that is in a store.
func read(t *testing.T, s *Store) (c contents, err error) {
	ctx := t.Context()
	_, err = s.Subscribe(ctx, func(ch attache.Change) {
		switch {
		case ch.Integration != nil:
			c.Integrations = append(c.Integrations, *ch.Integration)
		case ch.OAuthClient != nil:
			c.OAuthClients = append(c.OAuthClients, *ch.OAuthClient)
		case ch.Connection != nil:
			c.Connections = append(c.Connections, *ch.Connection)
		case ch.AccessToken != nil:
			c.AccessTokens = append(c.AccessTokens, *ch.AccessToken)
		}
	})
	if err == nil {
		c.AdminTokens, err = s.AdminTokens(ctx)
	}
	if err == nil {
		c.Authorities, err = s.Authorities(ctx)
	}
	return c, err
}

// look opens an image in the specimen's place and reads everything.
func (d specimen) look(t *testing.T, image []byte) (contents, error) {
	t.Helper()
	must(t, os.WriteFile(d.path, image, 0o600))
	s, err := Open(t.Context(), Options{Dir: d.dir})
	if err != nil {
		return contents{}, err
	}
	c, err := read(t, s)
	_, checkErr := s.Check(t.Context())
	return c, errors.Join(err, checkErr, s.Close())
}

// wantDetected fails the test unless the image is refused as corrupt, or reads
// as if nothing had happened to it.
func (d specimen) wantDetected(t *testing.T, image []byte, how string) (refused bool) {
	t.Helper()
	c, err := d.look(t, image)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: %v", how, err)
		}
		return true
	}
	if diff := cmp.Diff(d.content, c); diff != "" {
		t.Fatalf("%s: nothing was said, but: %s", how, diff)
	}
	return false
}

func TestTruncatedFile(t *testing.T) {
	d := newSpecimen(t)
	m, err := readMeta(bytes.NewReader(d.image), int64(len(d.image)))
	must(t, err)
	end := int(m.pages) * int(m.pageSize) // of what is in use; the rest is slack
	for at := 0; at <= len(d.image); at += 512 {
		for _, size := range []int{at, at + 1, at + 100} {
			if size > len(d.image) {
				continue
			}
			refused := d.wantDetected(t, d.image[:size], fmt.Sprintf("cut to %d of %d bytes", size, len(d.image)))
			if refused != (size < end) {
				t.Errorf("cut to %d bytes of which %d count: refused is %v", size, end, refused)
			}
		}
	}
	if refused := d.wantDetected(t, append(d.image, make([]byte, 5000)...), "made longer"); refused {
		t.Error("a file with more room is refused")
	}
}

func TestFlippedBytes(t *testing.T) {
	d := newSpecimen(t)
	refused, flips := 0, 0
	flip := func(at int, bits byte) {
		image := bytes.Clone(d.image)
		image[at] ^= bits
		flips++
		if d.wantDetected(t, image, fmt.Sprintf("byte %d xor %#x", at, bits)) {
			refused++
		}
	}
	m, err := readMeta(bytes.NewReader(d.image), int64(len(d.image)))
	must(t, err)
	for p := range m.pages { // the heads, where each byte matters
		for at := range pageHead + metaSize {
			if at%5 == 0 {
				flip(int(p)*int(m.pageSize)+at, 1<<rand.N(8))
			}
		}
	}
	for range 200 {
		flip(rand.N(len(d.image)), byte(1+rand.N(255)))
	}
	t.Logf("%d of %d flips refused", refused, flips)
	if refused < flips/20 {
		t.Error("hardly a flip was noticed: the test looks at the wrong bytes")
	}
}

func TestFilesThatAreNoDatabase(t *testing.T) {
	d := newSpecimen(t)
	garbage := make([]byte, 40000)
	for i := range garbage {
		garbage[i] = byte(rand.N(256))
	}
	for sentence, image := range map[string][]byte{
		"an empty file":                          {},
		"one byte":                               {0},
		"zeros":                                  make([]byte, len(d.image)),
		"random bytes":                           garbage,
		"text":                                   []byte(strings.Repeat("This is not a database.\n", 4000)),
		"a database whose first half was zeroed": append(make([]byte, len(d.image)/2), d.image[len(d.image)/2:]...),
		"a first page of zeros":                  append(make([]byte, 4096), d.image[4096:]...),
		"a second page of zeros":                 append(append(bytes.Clone(d.image[:4096]), make([]byte, 4096)...), d.image[8192:]...),
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := d.look(t, image)
			wantError(t, err, ErrCorrupt, d.path, "restore a backup")
			if now, _ := os.ReadFile(d.path); !bytes.Equal(now, image) {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("another program's database", func(t *testing.T) {
		dir := t.TempDir()
		db, err := bbolt.Open(filepath.Join(dir, databaseFile), 0o600, nil)
		must(t, err)
		must(t, db.Close())
		_, err = Open(t.Context(), Options{Dir: dir, MasterKey: "env:HOME"})
		wantError(t, err, ErrCorrupt)
	})
	t.Run("a directory", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, databaseFile), 0o700))
		if _, err := Open(t.Context(), Options{Dir: dir}); err == nil {
			t.Error("it opened")
		}
	})
}

// TestFileCutShortWhileOpen: reading beyond the end of a mapped file is a fault
// that would end the process.
func TestFileCutShortWhileOpen(t *testing.T) {
	ctx := t.Context()
	for _, size := range []int64{0, 4096, 8192} {
		d := newSpecimen(t)
		s, err := Open(ctx, Options{Dir: d.dir})
		must(t, err)
		must(t, os.Truncate(d.path, size))
		_, err = s.Connection(ctx, "bot0", "c0")
		wantError(t, err, ErrCorrupt)
		wantError(t, s.CreateIntegration(ctx, attache.Integration{Name: "new"}), ErrCorrupt)
		_, err = s.Check(ctx)
		wantError(t, err, ErrCorrupt)
		must(t, s.Close())
	}
}

// TestTampering changes records the way somebody could who may write the file
// but has no key.
func TestTampering(t *testing.T) {
	move := func(fromBucket, from, toBucket, to string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			a, b := tx.Bucket([]byte(fromBucket)), tx.Bucket([]byte(toBucket))
			x, y := bytes.Clone(a.Get([]byte(from))), bytes.Clone(b.Get([]byte(to)))
			if x == nil {
				return errors.New("nothing to move")
			}
			if y != nil {
				if err := a.Put([]byte(from), y); err != nil {
					return err
				}
			}
			return b.Put([]byte(to), x)
		}
	}
	put := func(bucket, key, value string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }
	}
	for sentence, tamper := range map[string]func(tx *bbolt.Tx) error{
		"two connections swapped":                        move(connections, "bot0\x00c1", connections, "bot0\x00c2"),
		"two connections of two integrations swapped":    move(connections, "bot0\x00c1", connections, "bot1\x00c1"),
		"a connection copied to a new name":              move(connections, "bot0\x00c1", connections, "bot0\x00new"),
		"a connection put where an access token belongs": move(connections, "bot0\x00c1", accessTokens, "bot0\x00c1"),
		"an admin token given another hash":              move(adminTokens, "09"+strings.Repeat("0", 62), adminTokens, "08"+strings.Repeat("0", 62)),
		"the grants of two connections swapped":          move(grants, "bot0\x00o1", grants, "bot0\x00o2"),
		"a grant given to a connection of another type":  move(grants, "bot0\x00o1", grants, "bot0\x00c1"),
		"an OAuth client copied to another integration":  move(oauthClients, "bot0\x00client", oauthClients, "bot1\x00other"),
		"an empty value":                                 put(connections, "bot0\x00c1", ""),
		"a value of another seal version":                put(connections, "bot0\x00c1", "\x02whatever"),
		"a value in the clear":                           put(connections, "bot0\x00c1", `{"type":"api_key","allowed_domain":"evil.example"}`),
		"an owner deleted": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(integrations)).Delete([]byte("bot0"))
		},
		"an OAuth client deleted": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(oauthClients)).Delete([]byte("bot0\x00client"))
		},
		"a connection deleted, and its grant left": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(connections)).Delete([]byte("bot0\x00o1"))
		},
		"the header deleted": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(metaBucket)).Delete([]byte(headerKey))
		},
		"the key of the authorities changed": func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(authorities))
			return errors.Join(b.Put([]byte("seu"), b.Get([]byte(authoritySet))), b.Delete([]byte(authoritySet)))
		},
		"the header replaced": put(metaBucket, headerKey, strings.Repeat("x", 100)),
	} {
		t.Run(sentence, func(t *testing.T) {
			d := newSpecimen(t)
			edit(t, d.dir, tamper)
			image, err := os.ReadFile(d.path)
			must(t, err)
			if !d.wantDetected(t, image, sentence) {
				t.Error("not noticed")
			}
		})
	}
	t.Run("what is moved is refused where it is read, and the rest still works", func(t *testing.T) {
		d := newSpecimen(t)
		edit(t, d.dir, move(connections, "bot0\x00c1", connections, "bot0\x00c2"))
		s, err := Open(t.Context(), Options{Dir: d.dir})
		must(t, err)
		_, err = s.Connection(t.Context(), "bot0", "c1")
		wantError(t, err, ErrCorrupt, "c1", "changed or moved")
		if _, err = s.Connection(t.Context(), "bot0", "c3"); err != nil {
			t.Error(err)
		}
		wantError(t, s.UpdateConnection(t.Context(), "bot0", "c2", func(*attache.Connection) error { return nil }), ErrCorrupt)
		r, err := s.Check(t.Context())
		wantError(t, err, ErrCorrupt, `c1"`, `c2"`)
		want := Report{Integrations: 2, Connections: 24, OAuthClients: 2, Grants: 6, AccessTokens: 2, AdminTokens: 1, Authorities: 1}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
		must(t, s.Close())
	})
}

// TestWhatHasNoOwnerIsNotHandedOut: an integration made anew under the old name
// would get the tokens and connections of the one that was taken out of the file.
func TestWhatHasNoOwnerIsNotHandedOut(t *testing.T) {
	d := newSpecimen(t)
	edit(t, d.dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(integrations)).Delete([]byte("bot0")) })
	s, err := Open(t.Context(), Options{Dir: d.dir})
	must(t, err)
	_, err = s.Subscribe(t.Context(), func(attache.Change) {})
	wantError(t, err, ErrCorrupt, `"bot0", which does not exist`)
	must(t, s.Close())
}

// TestRenamedBucketIsRefusedAtOnce: who only lists would see an empty store.
func TestRenamedBucketIsRefusedAtOnce(t *testing.T) {
	d := newSpecimen(t)
	edit(t, d.dir, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("connectionr"))
		if err != nil {
			return err
		}
		return errors.Join(tx.Bucket([]byte(connections)).ForEach(b.Put), tx.DeleteBucket([]byte(connections)))
	})
	_, err := Open(t.Context(), Options{Dir: d.dir})
	wantError(t, err, ErrCorrupt, "connectionr")
}

// FuzzVerifyPages patches a sound file, makes the meta pages' checksums right
// again, and holds verifyPages to its promise: what it lets through, bbolt can
// read, check and write without a panic or a fault.
func FuzzVerifyPages(f *testing.F) {
	image := smallBolt(f)
	f.Add([]byte{})
	f.Add([]byte{4, 0, 8, 3})                              // page 1: flags
	f.Add([]byte{8, 0, 10, 0xff, 8, 0, 11, 0xff})          // page 2: count
	f.Add([]byte{12, 0, 16, 0xff, 0, 0, 48, 1})            // page 3, and a meta page
	f.Add([]byte{0, 0, 56, 0xff, 4, 0, 56, 0xff, 0, 0, 0}) // pages
	f.Fuzz(func(t *testing.T, patches []byte) {
		patched := bytes.Clone(image)
		for ; len(patches) >= 4; patches = patches[4:] {
			at := (int(patches[0])<<8 | int(patches[1])<<4 ^ int(patches[2])) % len(patched)
			patched[at] = patches[3]
		}
		for _, p := range [][]byte{patched[pageHead:], patched[fuzzPage+pageHead:]} {
			sum := fnv.New64a()
			_, _ = sum.Write(p[:metaSize-8])
			binary.NativeEndian.PutUint64(p[metaSize-8:], sum.Sum64())
		}
		if err := verifyPages(bytes.NewReader(patched), int64(len(patched))); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "db")
		must(t, os.WriteFile(path, patched, 0o600))
		db, err := bbolt.Open(path, 0, nil)
		must(t, err)
		must(t, readBolt(db))
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("large"))
			must(t, err)
			return b.Put([]byte("new"), make([]byte, 5000))
		}))
		must(t, db.Close())
	})
}

// fuzzPage is the page size of the fuzzed file: small, so that most bytes mean
// something.
const fuzzPage = 1024

func smallBolt(f *testing.F) []byte {
	path := filepath.Join(f.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: fuzzPage})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 5 {
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			small, err1 := tx.CreateBucketIfNotExists([]byte("small"))
			large, err2 := tx.CreateBucketIfNotExists([]byte("large"))
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			for j := range 8 {
				err = errors.Join(err, large.Put(fmt.Append(nil, "key", i, j), bytes.Repeat([]byte("v"), 50*j+1)))
			}
			return errors.Join(err, small.Put([]byte("key"), []byte("value")))
		}))
	}
	image, readErr := os.ReadFile(path)
	if err := errors.Join(err, db.Close(), readErr); err != nil {
		f.Fatal(err)
	}
	return image
}

// readBolt touches every byte that bbolt would, and returns what its own check
// finds.
func readBolt(db *bbolt.DB) (found error) {
	err := db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			found = errors.Join(found, err)
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				_ = append(bytes.Clone(k), v...)
				return nil
			})
		})
	})
	return errors.Join(found, err)
}
