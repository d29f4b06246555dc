package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"attache"
	"attache/secret"
)

const (
	someKey    = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	anotherKey = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
)

func TestFirstStartMakesFilesOnlyTheOwnerCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	open(t, dir)
	for path, want := range map[string]fs.FileMode{
		dir:                               fs.ModeDir | 0o700,
		filepath.Join(dir, databaseFile):  0o600,
		filepath.Join(dir, masterKeyFile): 0o600,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	if diff := cmp.Diff([]string{databaseFile, masterKeyFile}, fileNames(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestMasterKeySources(t *testing.T) {
	keyFile := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(keyFile, []byte(someKey+"\n"), 0o600))
	t.Setenv("ATTACHE_TEST_KEY", someKey)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(keyFile))

	sources := map[string]Options{
		"a file":               {MasterKey: "file:" + keyFile},
		"a variable":           {MasterKey: "env:ATTACHE_TEST_KEY"},
		"a systemd credential": {MasterKey: "credential:key"},
	}
	for name, made := range sources {
		t.Run("a database made with "+name+" opens with the same key from elsewhere", func(t *testing.T) {
			made.Dir = t.TempDir()
			openAndClose(t, made)
			for _, o := range sources {
				o.Dir = made.Dir
				openAndClose(t, o)
			}
			if diff := cmp.Diff([]string{databaseFile}, fileNames(t, made.Dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("a passphrase is asked for once, and has to be right", func(t *testing.T) {
		asked := 0
		o := Options{Dir: t.TempDir(), MasterKey: "passphrase", Passphrase: func() ([]byte, error) {
			asked++
			return []byte("correct horse"), nil
		}}
		openAndClose(t, o)
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		openAndClose(t, o)
		o.Passphrase = func() ([]byte, error) { return []byte("battery staple"), nil }
		_, err := Open(t.Context(), o)
		wantError(t, err, ErrWrongKey, "the passphrase")
		_, err = Open(t.Context(), Options{Dir: o.Dir, MasterKey: "file:" + keyFile})
		wantError(t, err, ErrWrongKey, keyFile, "a passphrase")
	})
	t.Run("a passphrase does not open what a key has sealed", func(t *testing.T) {
		o := Options{Dir: t.TempDir()}
		openAndClose(t, o)
		o.MasterKey, o.Passphrase = "passphrase", func() ([]byte, error) { return []byte("x"), nil }
		_, err := Open(t.Context(), o)
		wantError(t, err, ErrWrongKey, "not a passphrase")
	})
}

func TestUnusableMasterKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		f, err := os.CreateTemp(dir, "key")
		must(t, err)
		_, err = f.WriteString(content)
		must(t, errors.Join(err, f.Close()))
		return f.Name()
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("ATTACHE_TEST_SHORT", "c2hvcnQ=")
	cancelled := errors.New("cancelled")
	for sentence, tt := range map[string]struct {
		options Options
		want    error
		says    string
	}{
		"a file that is not there":              {Options{MasterKey: "file:" + dir + "/none"}, fs.ErrNotExist, dir + "/none"},
		"an empty file":                         {Options{MasterKey: "file:" + file("\n")}, ErrNoKey, "it is empty"},
		"a file with something else":            {Options{MasterKey: "file:" + file("hunter2hunter2")}, ErrNoKey, "openssl rand -base64 32"},
		"a file with a key that is too long":    {Options{MasterKey: "file:" + file(strings.Repeat("A", 64))}, ErrNoKey, "32 bytes"},
		"a variable that is not set":            {Options{MasterKey: "env:ATTACHE_TEST_UNSET"}, ErrNoKey, "ATTACHE_TEST_UNSET"},
		"a variable with too short a key":       {Options{MasterKey: "env:ATTACHE_TEST_SHORT"}, ErrNoKey, "32 bytes"},
		"a credential that is not there":        {Options{MasterKey: "credential:none"}, fs.ErrNotExist, "LoadCredential"},
		"a passphrase and nobody to ask":        {Options{MasterKey: "passphrase"}, ErrNoKey, "nobody"},
		"a passphrase that nobody typed":        {Options{MasterKey: "passphrase", Passphrase: func() ([]byte, error) { return nil, cancelled }}, cancelled, "passphrase"},
		"an empty passphrase":                   {Options{MasterKey: "passphrase", Passphrase: func() ([]byte, error) { return nil, nil }}, ErrNoKey, "empty"},
		"a generated key where there should be": {Options{Dir: file("")}, syscall.ENOTDIR, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tt.options.Dir == "" {
				tt.options.Dir = filepath.Join(t.TempDir(), "data")
			}
			_, err := Open(t.Context(), tt.options)
			wantError(t, err, tt.want, tt.says)
			for _, word := range []string{"hunter2", "c2hvcnQ"} {
				if strings.Contains(err.Error(), word) {
					t.Errorf("the error shows the key: %v", err)
				}
			}
			if _, err := os.Stat(filepath.Join(tt.options.Dir, databaseFile)); err == nil {
				t.Error("a database was made all the same")
			}
		})
	}
	for _, spec := range []string{someKey, "file:", "env:", "credential:", "credential:../key", "vault:x", "passphrase:x"} {
		t.Run("the source "+spec, func(t *testing.T) {
			_, err := Open(t.Context(), Options{Dir: t.TempDir(), MasterKey: spec})
			var field *attache.FieldError
			if !errors.As(err, &field) || field.Field != "master_key" {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), someKey) {
				t.Errorf("the error repeats what may be a key: %v", err)
			}
		})
	}
}

func TestDatabaseWithAnotherKey(t *testing.T) {
	t.Run("the wrong key is named", func(t *testing.T) {
		t.Setenv("ATTACHE_TEST_KEY", someKey)
		o := Options{Dir: t.TempDir(), MasterKey: "env:ATTACHE_TEST_KEY"}
		openAndClose(t, o)
		t.Setenv("ATTACHE_TEST_KEY", anotherKey)
		_, err := Open(t.Context(), o)
		wantError(t, err, ErrWrongKey, "the environment variable ATTACHE_TEST_KEY", "put the right key there")
		o.MasterKey = ""
		_, err = Open(t.Context(), o)
		wantError(t, err, ErrNoKey, masterKeyFile)
	})
	t.Run("a lost generated key is not replaced", func(t *testing.T) {
		dir := t.TempDir()
		openAndClose(t, Options{Dir: dir})
		must(t, os.Remove(filepath.Join(dir, masterKeyFile)))
		for range 2 {
			_, err := Open(t.Context(), Options{Dir: dir})
			wantError(t, err, ErrNoKey, masterKeyFile, "put it back")
		}
	})
	t.Run("a generated key from before a start that was killed is kept", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, masterKeyFile), []byte(someKey), 0o600))
		openAndClose(t, Options{Dir: dir})
		t.Setenv("ATTACHE_TEST_KEY", someKey)
		openAndClose(t, Options{Dir: dir, MasterKey: "env:ATTACHE_TEST_KEY"})
	})
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	openAndClose(t, Options{Dir: dir})
	editHeader(t, dir, func(h *header) { h.Schema++ })
	_, err := Open(t.Context(), Options{Dir: dir})
	wantError(t, err, ErrNewerSchema, dir, fmt.Sprintf("schema %d", schema+1))
	// It says so before it asks for a key that may be of another kind.
	must(t, os.Remove(filepath.Join(dir, masterKeyFile)))
	_, err = Open(t.Context(), Options{Dir: dir})
	wantError(t, err, ErrNewerSchema)
}

// TestOlderSchema opens what the first version wrote, in the same file as it was.
func TestOlderSchema(t *testing.T) {
	packed, err := os.Open("testdata/schema1.db.gz")
	must(t, err)
	defer func() { must(t, packed.Close()) }()
	unpacked, err := gzip.NewReader(packed)
	must(t, err)
	image, err := io.ReadAll(unpacked)
	must(t, err)
	t.Setenv("ATTACHE_TEST_KEY", someKey)
	o := Options{Dir: t.TempDir(), MasterKey: "env:ATTACHE_TEST_KEY"}
	path := filepath.Join(o.Dir, databaseFile)
	must(t, os.WriteFile(path, image, 0o600))
	want := contents{
		Integrations: []attache.Integration{{Name: "bot", CreatedAt: created}},
		Connections:  []attache.Connection{apiKey("bot", "tickets", "key")},
		AccessTokens: []attache.AccessToken{accessToken("bot", "t")},
		AdminTokens:  []attache.AdminToken{{ID: "a", Role: attache.RoleViewer, Hash: attache.TokenHash{9}, CreatedAt: created}},
		Authorities:  []Authority{{Certificate: []byte("DER"), Key: secret.New("PEM"), CreatedAt: created}},
	}
	look := func(o Options, then func(*Store)) {
		t.Helper()
		s, err := Open(t.Context(), o)
		must(t, err)
		_, err = s.Check(t.Context())
		must(t, err)
		got, err := read(t, s)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		then(s)
		must(t, s.Close())
	}
	schemaNow := func() (found int) {
		editHeader(t, o.Dir, func(h *header) { found = h.Schema })
		return found
	}

	look(Options{Dir: o.Dir, MasterKey: o.MasterKey, ReadOnly: true}, func(*Store) {})
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, image) {
		t.Error("looking changed the file", err)
	}
	t.Setenv("ATTACHE_TEST_KEY", anotherKey)
	_, err = Open(t.Context(), o)
	wantError(t, err, ErrWrongKey)
	if n := schemaNow(); n != 1 {
		t.Errorf("who has no key made it schema %d", n)
	}
	t.Setenv("ATTACHE_TEST_KEY", someKey)
	look(o, func(s *Store) {
		must(t, s.CreateOAuthClient(t.Context(), oauthClient("bot", "client")))
		must(t, s.CreateConnection(t.Context(), authorized("bot", "x", 1)))
	})
	if n := schemaNow(); n != schema {
		t.Errorf("it has schema %d, want %d", n, schema)
	}
	want.OAuthClients = []attache.OAuthClient{oauthClient("bot", "client")}
	want.Connections = append(want.Connections, authorized("bot", "x", 1))
	look(o, func(*Store) {})
}

func TestUnreasonablePassphraseParametersAreRefused(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, MasterKey: "passphrase", Passphrase: func() ([]byte, error) { return []byte("x"), nil }}
	openAndClose(t, o)
	editHeader(t, dir, func(h *header) { h.Key.Stretching.Memory = 1 << 31 })
	_, err := Open(t.Context(), o)
	wantError(t, err, ErrCorrupt)
}

func TestInUse(t *testing.T) {
	t.Run("in the same process", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		open(t, dir)
		_, err := Open(t.Context(), Options{Dir: dir})
		wantError(t, err, ErrInUse, dir, "stop it", "--data-dir")
	})
	t.Run("for a check while somebody writes", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		open(t, dir)
		_, err := Open(t.Context(), Options{Dir: dir, ReadOnly: true})
		wantError(t, err, ErrInUse)
	})
	t.Run("by another process, until that ends", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := startChild(t, "open and hold", dir)
		_, _ = io.WriteString(c.stdin, "go\n")
		if line, _ := c.line(); line != "opened" {
			t.Fatal(line)
		}
		_, err := Open(t.Context(), Options{Dir: dir})
		wantError(t, err, ErrInUse)
		c.kill()
		openAndClose(t, Options{Dir: dir})
	})
}

func TestProcessesThatStartAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var all []*child
	for range 4 {
		all = append(all, startChild(t, "open and hold", dir))
	}
	for _, c := range all {
		_, _ = io.WriteString(c.stdin, "go\n")
	}
	got := map[string]int{}
	for _, c := range all {
		line, _ := c.line()
		got[line]++
	}
	if diff := cmp.Diff(map[string]int{"opened": 1, "in use": 3}, got); diff != "" {
		t.Error(diff)
	}
}

func TestStoresThatStartAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(t.Context(), Options{Dir: dir})
			if err == nil {
				err = s.Close()
			}
			if err != nil && !errors.Is(err, ErrInUse) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	openAndClose(t, Options{Dir: dir})
}

func TestReadOnlyLooksAndDoesNotTouch(t *testing.T) {
	o := Options{Dir: t.TempDir(), ReadOnly: true}
	_, err := Open(t.Context(), o)
	wantError(t, err, fs.ErrNotExist, o.Dir)
	if names := fileNames(t, o.Dir); names != nil {
		t.Errorf("looking made %v", names)
	}
	openAndClose(t, Options{Dir: o.Dir})
	s, err := Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	openAndClose(t, o) // another one looks as well
	wantError(t, s.CreateIntegration(t.Context(), attache.Integration{Name: "bot"}), ErrReadOnly)
	if _, err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUnwritableIsWhatTheSystemSaysOfReadOnlyPlaces(t *testing.T) {
	for errno, want := range map[syscall.Errno]bool{
		syscall.EROFS: true, syscall.EACCES: true, syscall.EPERM: true,
		syscall.ENOSPC: false, syscall.EIO: false, syscall.ENOENT: false,
	} {
		err := unwritable(&fs.PathError{Op: "open", Path: "/data/attache.db", Err: errno})
		if got := errors.Is(err, ErrReadOnly); got != want || !errors.Is(err, errno) {
			t.Errorf("%v becomes %v", errno, err)
		}
	}
}

// openAndClose opens a store, which must be sound, and closes it.
func openAndClose(t *testing.T, o Options) {
	t.Helper()
	s, err := Open(t.Context(), o)
	must(t, err)
	_, err = s.Check(t.Context())
	must(t, errors.Join(err, s.Close()))
}

// edit changes a closed database's records behind the store's back.
func edit(t *testing.T, dir string, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, databaseFile), 0, nil)
	must(t, err)
	must(t, errors.Join(db.Update(change), db.Close()))
}

func editHeader(t *testing.T, dir string, change func(*header)) {
	t.Helper()
	edit(t, dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(metaBucket))
		h, err := decodeHeader(b.Get([]byte(headerKey)))
		if err != nil {
			return err
		}
		change(&h)
		encoded, err := h.encode()
		return errors.Join(err, b.Put([]byte(headerKey), encoded))
	})
}
