package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"time"
)

// Origin, load, goproxy and reencrypt are processes of their own, so that the kernel counts
// what each of them uses. They are this program in another role, and talk with
// who started them in JSON: what they are told comes on standard input, what they
// answer goes to standard output, and the end of the input is the end of the
// process. None can outlive who started it.

// dialogue is a role's end of it.
type dialogue struct {
	*json.Decoder
	*json.Encoder
}

// roles are what this program can be besides the one that people start.
func roles() map[string]func(dialogue) error {
	return map[string]func(dialogue) error{
		"origin":    originRole,
		"load":      loadRole,
		"keep":      keepRole,
		"goproxy":   func(d dialogue) error { return ownRole(d, serveGoproxy) },
		"reencrypt": func(d dialogue) error { return ownRole(d, serveReencrypting) },
	}
}

// play runs the role that the arguments name. It says no where they name none.
func play(args []string) (played bool, err error) {
	if len(args) != 2 {
		return false, nil
	}
	role, ok := roles()[args[1]]
	if !ok {
		return false, nil
	}
	// An interrupt goes to every process at a terminal; who started this one ends it.
	signal.Ignore(os.Interrupt)
	err = role(dialogue{json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)})
	if err != nil {
		err = fmt.Errorf("%s: %w", args[1], err)
	}
	return true, err
}

// ask decodes questions of type Q and answers each, until there are no more.
func ask[Q, A any](d dialogue, answer func(Q) (A, error)) error {
	for {
		var q Q
		if err := d.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		a, err := answer(q)
		if err != nil {
			return err
		}
		if err := d.Encode(a); err != nil {
			return err
		}
	}
}

// child is a process in a role, as seen by who started it.
type child struct {
	role  string
	cmd   *exec.Cmd
	input io.Closer
	dialogue
}

// exitTime is how long a process may take to end before it is killed.
const exitTime = 15 * time.Second

// begin starts a process in a role and tells it its task. What it answers first
// goes to ready.
func begin(role string, task, ready any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{role, cmd, in, dialogue{json.NewDecoder(out), json.NewEncoder(in)}}
	if err := c.ask(task, ready); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// ask sends a question and decodes its answer.
func (c *child) ask(question, answer any) error {
	if err := c.Encode(question); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	if err := c.Decode(answer); err != nil {
		return fmt.Errorf("%s gave no answer: %w", c.role, err)
	}
	return nil
}

// end tells the process to end, and waits for that.
func (c *child) end() error {
	_ = c.input.Close()
	kill := time.AfterFunc(exitTime, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	return nil
}
