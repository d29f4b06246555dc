package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attache"
	"attache/secret"
)

// writeForEver writes as fast as it can, and says what was written once that is
// certain: "+ NAME" for a new connection, "- NAME" for a deleted one, "= N" when
// the token of the connection "rotating", each time replaced by its successor, is
// N, and "* N" when the grant of the connection "granted" is of generation N.
// "? NAME" announces a deletion.
func writeForEver(dir string) error {
	fmt.Println("started")
	ctx := context.Background()
	s, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		return err
	}
	for _, err := range []error{
		s.CreateIntegration(ctx, attache.Integration{Name: "bot"}),
		s.CreateConnection(ctx, attache.Connection{Integration: "bot", Name: "rotating"}),
		s.CreateOAuthClient(ctx, oauthClient("bot", "client")),
		s.CreateConnection(ctx, oauth("bot", "granted")),
	} {
		if err != nil && !errors.Is(err, attache.ErrExists) {
			return err
		}
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("c%d-%d", os.Getpid(), i)
		if err := s.CreateConnection(ctx, apiKey("bot", name, name)); err != nil {
			return err
		}
		fmt.Println("+", name)
		next, err := rotate(ctx, s)
		if err != nil {
			return err
		}
		fmt.Println("=", next)
		generation, err := refresh(ctx, s, "granted")
		if err != nil {
			return err
		}
		fmt.Println("*", generation)
		if i%3 != 0 {
			continue
		}
		fmt.Println("?", name)
		if err := deleteConnection(ctx, s, "bot", name); err != nil {
			return err
		}
		fmt.Println("-", name)
	}
}

// rotate replaces the token of the connection "rotating" by its successor.
func rotate(ctx context.Context, s *Store) (next int, err error) {
	err = s.UpdateConnection(ctx, "bot", "rotating", func(c *attache.Connection) error {
		next = number(c.Credential.Token) + 1
		c.Credential.Token = secret.New(strconv.Itoa(next))
		return nil
	})
	return next, err
}

// number reads one that is kept as a secret; none is 0.
func number(s secret.Text) int {
	n, _ := strconv.Atoi(s.Expose())
	return n
}

// A ledger is what has been acknowledged.
type ledger struct {
	there    map[string]bool
	doubtful map[string]bool // announced to be deleted
	rotation int
	grant    int // its generation
}

func (l *ledger) note(t *testing.T, line string) {
	verb, what, _ := strings.Cut(line, " ")
	switch verb {
	case "+":
		l.there[what] = true
	case "?":
		l.doubtful[what] = true
	case "-":
		delete(l.there, what)
	case "=":
		l.rotation, _ = strconv.Atoi(what)
	case "*":
		l.grant, _ = strconv.Atoi(what)
	case "failed:":
		t.Fatal("the writer", line)
	}
}

// settle holds the ledger against the store. One write may have been under way
// that nobody was told of; from here on it counts.
func (l *ledger) settle(t *testing.T, s *Store) {
	t.Helper()
	all, _, err := s.Connections(t.Context(), "bot", "", 0)
	if errors.Is(err, attache.ErrNotFound) && len(l.there) == 0 {
		return // killed before the first write
	}
	must(t, err)
	unheard, present := 0, map[string]bool{}
	for _, c := range all {
		if c.Name == "rotating" {
			n := number(c.Credential.Token)
			unheard += n - l.rotation
			if n < l.rotation {
				t.Errorf("token %d was acknowledged, %d is stored", l.rotation, n)
			}
			l.rotation = n
			continue
		}
		if c.Name == "granted" {
			unheard += l.settleGrant(t, c)
			continue
		}
		present[c.Name] = true
		if !l.there[c.Name] {
			unheard++
		}
		if want := apiKey("bot", c.Name, c.Name); !cmp.Equal(want, c) {
			t.Errorf("%s is not what was written", c.Name)
		}
	}
	for name := range l.there {
		if !present[name] {
			unheard++
			if !l.doubtful[name] {
				t.Errorf("%s was acknowledged, and is gone", name)
			}
		}
	}
	if unheard > 1 {
		t.Errorf("%d writes were made that nobody asked for", unheard)
	}
	l.there, l.doubtful = present, map[string]bool{}
}

// settleGrant returns how many refreshes were stored that nobody was told of.
func (l *ledger) settleGrant(t *testing.T, c attache.Connection) (unheard int) {
	t.Helper()
	n := 0
	if c.Grant != nil {
		n = int(c.Grant.Generation)
		if diff := cmp.Diff(authorized("bot", "granted", n), c); diff != "" {
			t.Error("the grant is not one that was written:", diff)
		}
	}
	if n < l.grant {
		t.Errorf("generation %d of the grant was acknowledged, %d is stored", l.grant, n)
	}
	unheard, l.grant = n-l.grant, n
	return unheard
}

func TestKillLosesNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	l := ledger{there: map[string]bool{}, doubtful: map[string]bool{}}
	for range 30 {
		w := startChild(t, "write for ever", dir)
		for range 1 + rand.N(20) {
			line, _ := w.line()
			l.note(t, line)
		}
		<-time.After(rand.N(2 * time.Millisecond))
		_ = w.cmd.Process.Kill()
		for line, ok := w.line(); ok; line, ok = w.line() {
			l.note(t, line)
		}
		w.kill()

		s, err := Open(t.Context(), Options{Dir: dir})
		must(t, err)
		_, err = s.Check(t.Context())
		must(t, err)
		l.settle(t, s)
		must(t, s.Close())
		if t.Failed() {
			return
		}
	}
	if len(l.there) < 30 || l.rotation < 30 || l.grant < 30 {
		t.Errorf("hardly a write was acknowledged: %d connections, %d rotations, %d refreshes", len(l.there), l.rotation, l.grant)
	}
}

func TestKillDuringTheFirstStartLeavesNothingHalfMade(t *testing.T) {
	half := 0
	for range 20 {
		dir := filepath.Join(t.TempDir(), "data")
		w := startChild(t, "write for ever", dir)
		w.line() // about to open
		<-time.After(rand.N(8 * time.Millisecond))
		w.kill()
		if _, err := os.Stat(filepath.Join(dir, databaseFile)); errors.Is(err, fs.ErrNotExist) {
			half++
		}

		s, err := Open(t.Context(), Options{Dir: dir})
		must(t, err)
		_, err = s.Check(t.Context())
		must(t, err)
		must(t, s.Close())
		if diff := cmp.Diff([]string{databaseFile, masterKeyFile}, fileNames(t, dir)); diff != "" {
			t.Fatal("left behind:", diff)
		}
	}
	t.Logf("%d of 20 were killed before there was a database", half)
}

func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range found {
		names = append(names, f.Name())
	}
	return names
}
