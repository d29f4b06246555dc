package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// program is a proxy that is not ours, or not this program: Attaché, nginx,
// squid or mitmproxy.
type program struct {
	Path string
	Args []string
	Env  []string // besides PATH
	Dir  string   // where it starts
	Log  string   // file for what it prints
}

// kept is the answer to a program: it runs.
type kept struct{ PID int }

// keepRole runs a program and ends it with itself, so that nothing is left when a
// benchmark is killed.
func keepRole(d dialogue) error {
	var p program
	if err := d.Decode(&p); err != nil {
		return err
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, log, log
	cmd.Env = append(p.Env, "PATH="+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	told := make(chan error, 1)
	go func() {
		told <- ask(d, func(struct{}) (kept, error) { return kept{cmd.Process.Pid}, nil })
	}()
	if err := d.Encode(kept{cmd.Process.Pid}); err != nil {
		return errors.Join(err, stop(cmd, ended))
	}
	select {
	case err := <-ended:
		return fmt.Errorf("%s ended by itself (%w)", p.Path, err)
	case err := <-told:
		return errors.Join(err, stop(cmd, ended))
	}
}

// stop ends a program politely, and after a while otherwise.
func stop(cmd *exec.Cmd, ended <-chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(exitTime * 2 / 3):
		_ = cmd.Process.Kill()
		<-ended
	}
	return nil // how a proxy ends is not what is measured
}

// keep starts a program, and waits until it is ready.
func keep(p program, ready func() error) (*child, int, error) {
	var k kept
	c, err := begin("keep", p, &k)
	if err != nil {
		return nil, 0, err
	}
	if err := eventually(func() error {
		if err := c.ask(struct{}{}, &k); err != nil {
			return permanent{err}
		}
		return ready()
	}); err != nil {
		return nil, 0, fmt.Errorf("%w; it printed: %s", errors.Join(err, c.end()), tail(p.Log))
	}
	return c, k.PID, nil
}

// permanent is an error that does not go away.
type permanent struct{ error }

// patience is how long a program may take to be ready.
const patience = 30 * time.Second

// eventually tries something again until it succeeds.
func eventually(try func() error) error {
	over := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if p, ok := err.(permanent); ok {
			return p.error
		}
		select {
		case <-over:
			return err
		case <-tick.C:
		}
	}
}

// tail is the end of what a program printed.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	const most = 600
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return strings.TrimSpace(string(text))
}
