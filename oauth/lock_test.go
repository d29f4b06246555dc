package oauth_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"attache"
	"attache/oauth"
	"attache/secret"
)

const passphrase = "correct horse " + canary

// identity makes a key, and what age-keygen would write of it.
func identity(t testing.TB) (public string, file secret.Text) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i.Recipient().String(), secret.New("# public key: " + i.Recipient().String() + "\n" + i.String() + "\n")
}

func locked(t testing.TB, l oauth.Lock, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.Close(secret.New("what is inside " + canary))
	if err != nil || strings.Contains(file, canary) || !strings.HasPrefix(file, armor.Header+"\n") {
		t.Fatalf("closed: %v\n%s", err, file)
	}
	return file
}

// refusedField is the field of a FieldError that shows no secret.
func refusedField(t testing.TB, err error) string {
	t.Helper()
	refused, is := errors.AsType[*attache.FieldError](err)
	if !is {
		t.Fatalf("error %v", err)
	}
	if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "AGE-SECRET-KEY-1") {
		t.Errorf("the error shows a secret: %v", err)
	}
	return refused.Field
}

func TestALockIsOpenedByItsKeysAlone(t *testing.T) {
	public, mine := identity(t)
	other, its := identity(t)
	_, stranger := identity(t)
	toBoth, err := oauth.RecipientLock([]string{public, " " + other + "\n"})
	both := locked(t, toBoth, err)
	byPassphrase, err := oauth.PassphraseLock(secret.New(passphrase))
	word := locked(t, byPassphrase, err)
	if toBoth.Stretches() || !byPassphrase.Stretches() {
		t.Error("it is the passphrase that takes memory")
	}
	passphraseKey := func(s string) func() (oauth.Key, error) {
		return func() (oauth.Key, error) { return oauth.PassphraseKey(secret.New(s)) }
	}
	identityKey := func(s secret.Text) func() (oauth.Key, error) {
		return func() (oauth.Key, error) { return oauth.IdentityKey(s) }
	}
	for sentence, c := range map[string]struct {
		file  string
		key   func() (oauth.Key, error)
		field string // of the refusal; empty: it opens
	}{
		"one recipient opens it":                {both, identityKey(mine), ""},
		"so does the other":                     {both, identityKey(its), ""},
		"one of several identities is enough":   {both, identityKey(secret.Concat(stranger, mine)), ""},
		"a stranger does not":                   {both, identityKey(stranger), "identity"},
		"nor a passphrase":                      {both, passphraseKey(passphrase), "passphrase"},
		"the passphrase opens it":               {word, passphraseKey(passphrase), ""},
		"another one does not":                  {quick(t, "10"), passphraseKey(passphrase + " "), "passphrase"},
		"nor an identity":                       {quick(t, "10"), identityKey(mine), "identity"},
		"no file is opened":                     {"", identityKey(mine), "file"},
		"a file without armor is not, here":     {"age-encryption.org/v1\n", identityKey(mine), "file"},
		"one with something after it is not":    {both + "x", identityKey(mine), "file"},
		"an empty passphrase is none":           {word, passphraseKey(""), "passphrase"},
		"what is no identity is refused":        {both, identityKey(secret.New("AGE-SECRET-KEY-1" + canary)), "identity"},
		"so is a public key in its place":       {both, identityKey(secret.New(public)), "identity"},
		"so are more identities than can be":    {both, identityKey(secret.New(strings.Repeat(mine.Expose(), 21))), "identity"},
		"so is nothing in the place of one":     {both, identityKey(secret.Text{}), "identity"},
		"and so is a file of somebody's choice": {strings.Repeat("x", 1<<20), identityKey(mine), "file"},
	} {
		key, err := c.key()
		var inside secret.Text
		if err == nil {
			inside, err = key.Open(c.file)
		}
		switch {
		case c.field != "":
			if got := refusedField(t, err); got != c.field {
				t.Errorf("%s: %v", sentence, err)
			}
		case err != nil || inside.Expose() != "what is inside "+canary:
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

// TestAFileThatWasChangedIsNotOpened changes and cuts each byte of one.
func TestAFileThatWasChangedIsNotOpened(t *testing.T) {
	public, mine := identity(t)
	lock, err := oauth.RecipientLock([]string{public})
	file := locked(t, lock, err)
	key, err := oauth.IdentityKey(mine)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(file) {
		cut, changed := file[:i], []byte(file)
		changed[i] ^= 1
		if changed[i] == '\r' || i == len(file)-1 {
			continue // lines may end so, and the last one need not end
		}
		for _, f := range []string{cut, string(changed)} {
			if inside, err := key.Open(f); err == nil && i < len(file)-1 {
				t.Fatalf("opened with byte %d gone wrong: %d bytes", i, inside.Len())
			}
		}
	}
}

// quick is a file that our passphrase opens with little work, and that says that it
// takes as much as asked.
func quick(t testing.TB, asked string) string {
	t.Helper()
	var out, armored bytes.Buffer
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	w, err := age.Encrypt(&out, r)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	a := armor.NewWriter(&armored)
	_, err = a.Write(bytes.Replace(out.Bytes(), []byte(" 10\n"), []byte(" "+asked+"\n"), 1))
	if err := errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}
	return armored.String()
}

// TestAPassphraseIsStretchedAsFarAsOursIs: a file can ask for any amount of work.
func TestAPassphraseIsStretchedAsFarAsOursIs(t *testing.T) {
	key, err := oauth.PassphraseKey(secret.New(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	for _, asked := range []string{"19", "22", "99", strings.Repeat("9", 1000), "-1", "0", "x"} {
		if _, err := key.Open(quick(t, asked)); refusedField(t, err) != "file" {
			t.Errorf("2^%s: %v", asked, err)
		}
	}
	if _, err := key.Open(quick(t, "10")); err != nil {
		t.Error(err)
	}
}

func TestWhatLocksNothing(t *testing.T) {
	public, mine := identity(t)
	for sentence, err := range map[string]error{
		"a passphrase of 11 characters": second(oauth.PassphraseLock(secret.New(canary[:11]))),
		"what is no key":                second(oauth.RecipientLock([]string{public, canary})),
		"a secret key":                  second(oauth.RecipientLock([]string{mine.Expose()[strings.Index(mine.Expose(), "AGE"):]})),
		"an SSH key":                    second(oauth.RecipientLock([]string{"ssh-ed25519 AAAA " + canary})),
		"more keys than can be":         second(oauth.RecipientLock([]string{strings.Repeat(public+"\n", 21)})),
	} {
		if field := refusedField(t, err); field != "passphrase" && field != "recipients" {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	lock, err := oauth.PassphraseLock(secret.New("zwölf äöü ßß"))
	if err != nil {
		t.Errorf("twelve characters: %v", err)
	}
	if _, err := lock.Close(secret.New(strings.Repeat("x", 256<<10+1))); err == nil {
		t.Error("it takes more than it would open")
	}
}

func second[T any](_ T, err error) error { return err }
