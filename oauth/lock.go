package oauth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/armor"

	"attache"
	"attache/secret"
)

// What is locked is an age file (https://age-encryption.org/v1), armored, so that
// it can be pasted. The age command opens it, and can make it.

const (
	// workFactor is age's own: scrypt takes about a second and 256 MiB. A file that
	// asks for more than that is not opened.
	workFactor    = 18
	minPassphrase = 12 // characters of one that we lock with
	maxRecipients = 20
	maxLocked     = 256 << 10 // bytes of what is inside
)

// The fields of requests that lock and open.
const (
	fieldFile       = "file"
	fieldPassphrase = "passphrase"
	fieldIdentity   = "identity"
	fieldRecipients = "recipients"
)

// Lock is what a text is encrypted with. The zero Lock is none.
type Lock struct {
	to        []age.Recipient
	stretches bool // it takes the memory of [workFactor]
}

// Key is what a [Lock] is opened with. The zero Key opens nothing.
type Key struct {
	with  []age.Identity
	field string // of the request that it came in
}

// PassphraseLock is opened by a passphrase of at least 12 characters.
func PassphraseLock(passphrase secret.Text) (Lock, error) {
	text := passphrase.Expose()
	if utf8.RuneCountInString(text) < minPassphrase {
		return Lock{}, refuse(fieldPassphrase, fmt.Sprintf("has less than %d characters", minPassphrase), "choose a longer one, of several words")
	}
	r, err := age.NewScryptRecipient(text)
	if err != nil {
		return Lock{}, refuse(fieldPassphrase, "cannot be used", "choose another one")
	}
	r.SetWorkFactor(workFactor)
	return Lock{[]age.Recipient{r}, true}, nil
}

// RecipientLock is opened by the identity of any of the recipients: the public keys
// that age-keygen prints, which begin with age1.
func RecipientLock(recipients []string) (Lock, error) {
	var l Lock
	for _, text := range recipients {
		// The errors of age repeat what they do not understand.
		parsed, err := age.ParseRecipients(strings.NewReader(strings.TrimSpace(text)))
		switch {
		case strings.HasPrefix(strings.ToUpper(strings.TrimSpace(text)), "AGE-SECRET-KEY-"):
			return Lock{}, refuse(fieldRecipients, "are secret keys", "give the public ones, which age-keygen -y prints")
		case err != nil:
			return Lock{}, refuse(fieldRecipients, "are not public keys of age", "give what age-keygen prints: age1...")
		}
		l.to = append(l.to, parsed...)
	}
	if len(l.to) > maxRecipients {
		return Lock{}, refuse(fieldRecipients, fmt.Sprintf("are more than %d", maxRecipients), "export to fewer")
	}
	return l, nil
}

// PassphraseKey opens what was encrypted with a passphrase.
func PassphraseKey(passphrase secret.Text) (Key, error) {
	i, err := age.NewScryptIdentity(passphrase.Expose())
	if err != nil {
		return Key{}, refuse(fieldPassphrase, "is empty", "give the one that the file was exported with")
	}
	return Key{[]age.Identity{bounded{i}}, fieldPassphrase}, nil
}

// bounded is a passphrase that is not stretched further than ours are: a file of
// somebody else's could ask for hours and for all memory.
type bounded struct{ *age.ScryptIdentity }

// Unwrap implements [age.Identity].
func (b bounded) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != scryptStanza || len(s.Args) != 2 {
			continue
		}
		if factor, err := strconv.Atoi(s.Args[1]); err == nil && factor > workFactor {
			return nil, refuse(fieldFile, fmt.Sprintf("asks for more work with its passphrase than age's own 2^%d", workFactor), "encrypt it to a key instead")
		}
	}
	return b.ScryptIdentity.Unwrap(stanzas)
}

// scryptStanza is the type of a stanza in a file's head that a passphrase opens.
const scryptStanza = "scrypt"

// IdentityKey opens what was encrypted to one of the identities in a file as
// age-keygen writes it.
func IdentityKey(file secret.Text) (Key, error) {
	all, err := age.ParseIdentities(strings.NewReader(file.Expose()))
	if err != nil || len(all) > maxRecipients {
		return Key{}, refuse(fieldIdentity, "is not a file of age's identities", "give the file that age-keygen wrote, with a line that begins with AGE-SECRET-KEY-")
	}
	return Key{all, fieldIdentity}, nil
}

// Stretches tells whether a use of the lock takes about a second and 256 MiB, so
// that there should not be many at once.
func (l Lock) Stretches() bool { return l.stretches }

// Stretches is [Lock.Stretches].
func (k Key) Stretches() bool { return k.field == fieldPassphrase }

// Close encrypts a text.
func (l Lock) Close(text secret.Text) (file string, err error) {
	if text.Len() > maxLocked {
		return "", fmt.Errorf("an export of more than %d KiB", maxLocked>>10)
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, l.to...)
	if err != nil {
		// Its errors name kinds of recipients alone.
		return "", refuse(fieldRecipients, "cannot be used together", "do not mix post-quantum keys with others")
	}
	_, err = io.WriteString(w, text.Expose())
	if err := cmp.Or(err, w.Close(), armored.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}

// Open decrypts a file. Where any part of it was changed, no part of what is inside
// is returned. The error is an [attache.FieldError]: of the file, or of what the key
// came in.
func (k Key) Open(file string) (secret.Text, error) {
	broken := refuse(fieldFile, "is not a whole age file", "copy it again, or export again")
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(file)), k.with...)
	var nobody *age.NoIdentityMatchError
	var refused *attache.FieldError
	switch {
	case errors.As(err, &nobody):
		needs := "the identity of one of those that it was encrypted to"
		if slices.Contains(nobody.StanzaTypes, scryptStanza) {
			needs = "the passphrase that it was encrypted with"
		}
		return secret.Text{}, refuse(k.field, "does not open the file", "give "+needs)
	case errors.As(err, &refused):
		return secret.Text{}, refused
	case err != nil:
		return secret.Text{}, broken
	}
	text, err := io.ReadAll(io.LimitReader(r, maxLocked+1))
	if err != nil || len(text) > maxLocked {
		return secret.Text{}, broken
	}
	return secret.New(string(text)), nil
}
