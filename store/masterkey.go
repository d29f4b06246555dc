package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"attache"
)

const (
	masterKeyFile = "master.key"
	masterKeySize = 32 // bytes
)

// A masterKey is where the key comes from that everything else hangs on. It is
// read when it is first needed, and once: a passphrase is not asked for twice.
type masterKey struct {
	name   string // for people: "the environment variable X"
	remedy string // what to do where it is not there
	ask    func() ([]byte, error)
	path   string // of the generated file, where that is the source

	// isPassphrase: the bytes are what a person typed, and have to be stretched.
	isPassphrase bool
	bytes        []byte // what was read, or nil
}

// newMasterKey understands Options.MasterKey. Its error does not repeat it: it
// might be a key, put where the name of one belongs.
func newMasterKey(o Options) (*masterKey, error) {
	source, value, _ := strings.Cut(o.MasterKey, ":")
	switch {
	case o.MasterKey == "":
		path := filepath.Join(o.Dir, masterKeyFile)
		return &masterKey{
			name:   "the generated key file " + path,
			remedy: "put it back from where it was backed up; without it the database cannot be opened",
			ask:    func() ([]byte, error) { return readKeyFile(path) },
			path:   path,
		}, nil
	case o.MasterKey == "passphrase":
		if o.Passphrase == nil {
			return nil, fmt.Errorf("%w: nobody can be asked for the passphrase here", ErrNoKey)
		}
		return &masterKey{name: "the passphrase", remedy: "type it", ask: o.Passphrase, isPassphrase: true}, nil
	case source == "file" && value != "":
		return &masterKey{
			name:   "the key file " + value,
			remedy: newKeyRemedy,
			ask:    func() ([]byte, error) { return readKeyFile(value) },
		}, nil
	case source == "env" && value != "":
		return &masterKey{
			name:   "the environment variable " + value,
			remedy: newKeyRemedy,
			ask:    func() ([]byte, error) { return decodeKey([]byte(os.Getenv(value))) },
		}, nil
	case source == "credential" && value != "" && value == filepath.Base(value):
		return &masterKey{
			name:   "the systemd credential " + value,
			remedy: "set LoadCredential= or LoadCredentialEncrypted= in the unit",
			ask:    func() ([]byte, error) { return readCredential(value) },
		}, nil
	}
	return nil, &attache.FieldError{
		Field:  "master_key",
		Rule:   "is not a place where a key is kept",
		Remedy: "use file:PATH, env:NAME, credential:NAME or passphrase, or leave it empty for a generated file",
	}
}

const newKeyRemedy = "it holds 32 random bytes in base64; `openssl rand -base64 32` makes some"

// read returns the key, or the passphrase.
func (k *masterKey) read() ([]byte, error) {
	if k.bytes != nil {
		return k.bytes, nil
	}
	b, err := k.ask()
	if err != nil {
		return nil, fmt.Errorf("%w in %s (%w): %s", ErrNoKey, k.name, err, k.remedy)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w in %s (it is empty): %s", ErrNoKey, k.name, k.remedy)
	}
	k.bytes = b
	return b, nil
}

// generate makes the key file where that is the source and there is none. It is
// for new databases alone: with a database there, a missing key is lost.
func (k *masterKey) generate() error {
	if k.path == "" {
		return nil
	}
	if _, err := os.Stat(k.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var key [masterKeySize]byte
	_, _ = rand.Read(key[:]) // never fails
	f, err := tempFile(k.path)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key[:]) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return linkNew(f.Name(), k.path)
}

func readKeyFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeKey(b)
}

// readCredential reads what systemd hands to a unit (systemd.exec(5),
// "Credentials").
func readCredential(name string) ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, errors.New("CREDENTIALS_DIRECTORY is not set")
	}
	return readKeyFile(filepath.Join(dir, name))
}

func decodeKey(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, errors.New("it is empty")
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(key, text)
	if err != nil || n != masterKeySize {
		return nil, errors.New("it is not 32 bytes in base64")
	}
	return key[:n], nil
}
