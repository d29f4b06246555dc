package store

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/crypto/argon2"
)

const (
	// schema is the version of everything in the database: which buckets there
	// are, and what the records in them look like. 2 added OAuth clients and
	// grants, 3 grants that were moved.
	schema = 3
	// sealVersion begins each sealed value, and is sealed along.
	sealVersion = 1

	metaBucket = "meta"
	headerKey  = "header"
)

// A header is the one record that is not sealed, for it says how to unseal the
// others. Its frame will outlast every schema: SHA-256 of the rest, then a JSON
// object with "schema". The checksum tells damage from a wrong key.
type header struct {
	Schema int        `json:"schema"`
	Key    wrappedKey `json:"key"`
}

// A wrappedKey is the keyset that seals the records, sealed itself by a key
// derived from the master key. So the master key can be changed without sealing
// the records anew; and as each record carries the ID of its key, the keyset can
// get another key while the old one still opens what it has sealed.
type wrappedKey struct {
	Stretching *stretching `json:"stretching,omitempty"` // with a passphrase
	MasterID   []byte      `json:"master_id"`            // tells one master key from another
	Keyset     []byte      `json:"keyset"`
}

// stretching is how a passphrase becomes a key, with Argon2id (RFC 9106).
type stretching struct {
	Salt    []byte `json:"salt"`
	Passes  uint32 `json:"passes"`
	Memory  uint32 `json:"memory_kib"`
	Threads uint8  `json:"threads"`
}

// newStretching is RFC 9106's second recommendation (section 4), 64 MiB.
func newStretching() *stretching {
	s := &stretching{Salt: make([]byte, 16), Passes: 3, Memory: 64 << 10, Threads: 4}
	_, _ = rand.Read(s.Salt) // never fails
	return s
}

func (s *stretching) key(passphrase []byte) ([]byte, error) {
	// The header is not authenticated: whoever can write the file must not be
	// able to make us allocate a terabyte.
	if s.Passes < 1 || s.Passes > 64 || s.Memory > 1<<20 || s.Threads < 1 {
		return nil, damaged("the passphrase's parameters are beyond reason")
	}
	return argon2.IDKey(passphrase, s.Salt, s.Passes, s.Memory, s.Threads, masterKeySize), nil
}

func (h header) encode() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return append(sum[:], b...), nil
}

func decodeHeader(b []byte) (header, error) {
	if len(b) < sha256.Size {
		return header{}, damaged("the header is missing")
	}
	sum, body := b[:sha256.Size], b[sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return header{}, damaged("the header's checksum does not match")
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(body, &version); err != nil || version.Schema < 1 {
		return header{}, damaged("the header has no schema version")
	}
	if version.Schema > schema {
		return header{}, fmt.Errorf("%w (schema %d, this version knows %d)", ErrNewerSchema, version.Schema, schema)
	}
	var h header
	if err := json.Unmarshal(body, &h); err != nil {
		return header{}, damaged("the header cannot be decoded")
	}
	return h, nil
}

// newHeader makes a new keyset, wrapped with the master key.
func newHeader(k *masterKey) (header, error) {
	var w wrappedKey
	if k.isPassphrase {
		w.Stretching = newStretching()
	}
	wrap, id, err := w.wrapping(k)
	if err != nil {
		return header{}, err
	}
	// Nonces of 192 bits: random ones may be drawn for ever.
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return header{}, err
	}
	var out bytes.Buffer
	err = handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&out), wrap, associated(metaBucket, headerKey, "keyset"))
	if err != nil {
		return header{}, err
	}
	w.MasterID, w.Keyset = id, out.Bytes()
	return header{Schema: schema, Key: w}, nil
}

// unwrap opens the keyset.
func (w wrappedKey) unwrap(k *masterKey) (sealer, error) {
	if k.isPassphrase != (w.Stretching != nil) {
		was := map[bool]string{true: "a passphrase", false: "a key, not a passphrase"}
		return sealer{}, fmt.Errorf("%w than %s: it was sealed with %s; set master_key to the source that it was made with", ErrWrongKey, k.name, was[w.Stretching != nil])
	}
	wrap, id, err := w.wrapping(k)
	if err != nil {
		return sealer{}, err
	}
	if !bytes.Equal(id, w.MasterID) {
		return sealer{}, fmt.Errorf("%w than %s: set master_key to the source that it was made with, or put the right key there", ErrWrongKey, k.name)
	}
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(w.Keyset)), wrap, associated(metaBucket, headerKey, "keyset"))
	if err != nil {
		return sealer{}, damaged("the keyset does not unseal")
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return sealer{}, err
	}
	return sealer{primitive}, nil
}

// wrapping derives from the master key what wraps the keyset, and the ID.
func (w wrappedKey) wrapping(k *masterKey) (wrap tink.AEAD, id []byte, err error) {
	master, err := k.read()
	if err != nil {
		return nil, nil, err
	}
	if w.Stretching != nil {
		if master, err = w.Stretching.key(master); err != nil {
			return nil, nil, err
		}
	}
	id, err = hkdf.Key(sha256.New, master, nil, "attache store: which master key", 8)
	if err != nil {
		return nil, nil, err
	}
	key, err := hkdf.Key(sha256.New, master, nil, "attache store: wrap the keyset", 32)
	if err != nil {
		return nil, nil, err
	}
	wrap, err = subtle.NewXChaCha20Poly1305(key)
	return wrap, id, err
}

// A sealer seals values to their place: a value unseals only in the bucket and
// under the key that it was sealed for.
type sealer struct{ aead tink.AEAD }

func (s sealer) seal(bucket, key string, plain []byte) ([]byte, error) {
	sealed, err := s.aead.Encrypt(plain, associated(bucket, key, "record"))
	if err != nil {
		return nil, errors.New("seal: encryption failed")
	}
	return append([]byte{sealVersion}, sealed...), nil
}

func (s sealer) unseal(bucket, key string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, damaged(fmt.Sprintf("a record in %s is not sealed as this version seals", bucket))
	}
	plain, err := s.aead.Decrypt(sealed[1:], associated(bucket, key, "record"))
	if err != nil {
		return nil, damaged(fmt.Sprintf("the record %q in %s was changed or moved", key, bucket))
	}
	return plain, nil
}

// associated is the place that a value is sealed to. The lengths keep two
// places from looking alike.
func associated(bucket, key, field string) []byte {
	out := make([]byte, 0, 1+3*binary.MaxVarintLen16+len(bucket)+len(key)+len(field))
	out = append(out, sealVersion)
	for _, s := range []string{bucket, key, field} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}
