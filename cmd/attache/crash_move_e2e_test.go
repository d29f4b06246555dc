package main_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"attache"
	"attache/client"
	"attache/secret"
	"attache/store"
)

// moves is how often a move is killed.
const moves = 24

// TestKilledServerLosesNoMove kills a server by kill -9 while a connection moves
// away and is refreshed, at a provider that takes the use of a spent refresh token
// for theft. What is on the disk of the dead says whether the connection is still
// there, or can be given away again, as the same move; then it goes on, on one of
// the two machines and never on both.
func TestKilledServerLosesNoMove(t *testing.T) {
	here := newMortal(t, build(t, "."), 7)
	there := here.neighbour(t)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	m := mover{from: here, to: there, key: key, within: 4 * time.Millisecond}
	ends := map[bool]int{}
	for range moves {
		ends[m.moveAndDie(t)]++
	}
	here.provider.check(t)
	t.Logf("%d moves were cut off before they were written, %d after", ends[false], ends[true])
	if ends[true] == 0 || ends[false] == 0 {
		t.Error("the kills are not as various as they should be")
	}
}

// neighbour is another installation that knows the same provider, and has nothing
// of it.
func (m *mortal) neighbour(t *testing.T) *mortal {
	t.Helper()
	root := t.TempDir()
	n := &mortal{
		installation: &installation{binary: m.binary, home: root, dir: filepath.Join(root, "data"), printed: new(transcript)},
		provider:     m.provider, random: m.random, config: m.config,
	}
	n.attache(t, "integration", "create", integration)
	_, n.token = n.issue(t, "token", "create", "--integration", integration)
	return n
}

// mover moves a connection from one installation to another.
type mover struct {
	from, to *mortal
	key      *age.X25519Identity
	// within is when the server is killed. It goes to where moves are cut off as often
	// before they are written as after, whatever the machine.
	within time.Duration
}

func (m *mover) export(t *testing.T, s *life) (client.Exported, error) {
	return s.api.ExportConnection(t.Context(), integration, "api", client.Export{Mode: client.Move, Recipients: []string{m.key.Recipient().String()}})
}

// moveAndDie kills the server that exports, at any moment, and sees what has become
// of the grant. Whether it has gone, it returns; then the other one is next.
func (m *mover) moveAndDie(t *testing.T) (gone bool) {
	t.Helper()
	s := m.from.start(t)
	m.from.provider.expire()
	refreshed, answered := make(chan struct{}), make(chan client.Exported, 1)
	go func() {
		defer close(refreshed)
		_, _ = m.from.get(t, s) // makes the server refresh; fails when that dies
	}()
	go func() {
		defer close(answered)
		if e, err := m.export(t, s); err == nil {
			answered <- e
		}
	}()
	<-time.After(time.Duration(m.from.random.Int64N(int64(m.within))))
	s.kill()
	<-refreshed
	first, wasAnswered := <-answered

	g := m.grant(t)
	if g.State != attache.GrantMoved {
		if wasAnswered {
			t.Fatalf("it was given away, and is %s", g.State)
		}
		m.goesOn(t, g)
		m.within *= 2
		return false
	}
	if known := m.from.provider.judge(g.Move.Held.RefreshToken.Expose()); known != unspent {
		t.Errorf("what was given away is %s", known)
	}
	m.arrives(t, first)
	m.from, m.to = m.to, m.from
	m.within /= 2
	return true
}

// grant is what is on the disk of the dead.
func (m *mover) grant(t *testing.T) attache.Grant {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: m.from.dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // nothing was written
	c, err := s.Connection(t.Context(), integration, "api")
	if err != nil {
		t.Fatal(err)
	}
	return *c.Grant
}

// goesOn sees that a connection which was not moved is as good as after any other
// kill.
func (m *mover) goesOn(t *testing.T, g attache.Grant) {
	t.Helper()
	m.from.fate = stored
	if m.from.provider.judge(g.RefreshToken.Expose()) == lost {
		m.from.fate = lost
		m.from.provider.excuse(g.RefreshToken.Expose())
	}
	s := m.from.start(t)
	m.from.verify(t, s)
	s.kill()
}

// arrives repeats the move, and imports it on the other machine. Here nothing
// happens any more.
func (m *mover) arrives(t *testing.T, first client.Exported) {
	t.Helper()
	s := m.from.start(t)
	if status, err := m.from.get(t, s); status != http.StatusServiceUnavailable {
		t.Errorf("a request where nothing is left: %d %v", status, err)
	}
	again, err := m.export(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if first.ExportID != "" && first.ExportID != again.ExportID {
		t.Errorf("the move %s is repeated as %s", first.ExportID, again.ExportID)
	}
	if _, err := s.api.ConfirmMove(t.Context(), integration, "api", again.ExportID); err != nil {
		t.Fatal(err)
	}
	if err := s.api.DeleteConnection(t.Context(), integration, attache.OAuth, "api"); err != nil {
		t.Fatal(err)
	}
	s.kill()

	other := m.to.start(t)
	in := client.Import{File: again.File, Identity: secret.Outgoing{Text: secret.New(m.key.String())}}
	if _, err := other.api.ImportConnection(t.Context(), integration, in); err != nil {
		t.Fatal(err)
	}
	m.to.provider.expire()
	if status, err := m.to.get(t, other); status != http.StatusNoContent {
		t.Errorf("a request where it has gone: %d %v", status, err)
	}
	other.kill()
}
