package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"attache/configs"
)

// A background server makes room: for a server that somebody starts, and for
// another background server with other settings, once nobody uses it.

// endPath is where a background server is asked to end, and settingsPath where it
// is asked to end unless it has these settings.
const (
	endPath      = "/end"
	settingsPath = "/settings"
)

// settings are a configuration as texts, by key; of what is secret, there is a hash.
type settings map[string]string

func settingsOf(cfg configs.Config) settings {
	s := settings{}
	for _, k := range configs.Keys() {
		s[k.Name] = k.Text(&cfg)
	}
	_ = cfg.Upstream.Proxy.Check(func(text string) error {
		sum := sha256.Sum256([]byte(text))
		s["upstream.proxy"] = hex.EncodeToString(sum[:])
		return nil
	})
	return s
}

// unlike are the keys that differ, in order.
func (s settings) unlike(others settings) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if other, known := others[key]; known && other != s[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// stays is what a background server answers that does not end.
type stays struct {
	PID    int      `json:"pid"`
	Unlike []string `json:"unlike"` // keys of settings that are not those of who asks
}

// serveEnd ends a background server that nobody uses.
func (s *server) serveEnd(w http.ResponseWriter, _ *http.Request) { s.makeRoom(w, nil) }

// serveSettings ends a background server that nobody uses and that has other
// settings than those of the request.
func (s *server) serveSettings(w http.ResponseWriter, r *http.Request) {
	var wanted settings
	if err := json.NewDecoder(io.LimitReader(r.Body, maxLeaseBytes)).Decode(&wanted); err != nil {
		http.Error(w, "not settings", http.StatusBadRequest)
		return
	}
	unlike := settingsOf(s.cfg).unlike(wanted)
	if len(unlike) == 0 {
		w.WriteHeader(http.StatusOK)
		return
	}
	s.makeRoom(w, unlike)
}

func (s *server) makeRoom(w http.ResponseWriter, unlike []string) {
	switch {
	case !s.yields:
		http.Error(w, "it was not started in the background", http.StatusForbidden)
	case s.proxy.Busy() || !s.idle.over(0):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(stays{PID: os.Getpid(), Unlike: unlike}) // who asks may be gone
	default:
		w.WriteHeader(http.StatusNoContent) // endWhenIdle does the rest
	}
}

var errRunning = errors.New("in use by the server that attache run has started, for commands that still run: wait for them to end, or name another data directory with --data-dir")

// makeRoom ends the background server of a data directory, if there is one and
// nobody uses it.
func makeRoom(ctx context.Context, dir string) error {
	who, err := askForRoom(ctx, dir, endPath, nil)
	if err == nil && who != nil {
		err = fmt.Errorf("%s: %w (pid %d)", dir, errRunning, who.PID)
	}
	return err
}

// renew ends the background server of a data directory that nobody uses, if it
// has other settings than the next one will have. Where it is in use, it says so.
func (a *app) renew(ctx context.Context, cfg configs.Config) error {
	wanted, err := json.Marshal(settingsOf(inBackground(cfg)))
	if err != nil {
		return err
	}
	who, err := askForRoom(ctx, cfg.DataDir, settingsPath, wanted)
	if err == nil && who != nil {
		a.warn("the server in the background (pid %d) is in use by other commands, and runs with other settings than these: %s", who.PID, strings.Join(who.Unlike, ", "))
	}
	return err
}

// askForRoom asks a background server to end, and waits until it has. It returns
// who stays because it is in use.
func askForRoom(ctx context.Context, dir, path string, body []byte) (*stays, error) {
	socket := filepath.Join(dir, socketFile)
	resp, err := askSocket(ctx, socket, path, body)
	if err != nil {
		return nil, nil // what is wrong, the one that needs the room will find
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusConflict:
		who := new(stays)
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxLeaseBytes)).Decode(who) // an older one says less
		return who, nil
	case http.StatusNoContent:
		return nil, eventually(ctx, reachTimeout, func() (bool, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err == nil {
				_ = conn.Close()
			}
			return notListening(err), nil
		})
	}
	return nil, nil
}
