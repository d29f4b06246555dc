package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"attache/configs"
)

const runName = "run"

// Exit codes of run that are not the command's, as env(1) and sudo(8) have them.
const (
	exitRun           = 125 // run itself failed
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // and the signal's number
)

// identity is who a client is to the proxy.
type identity struct {
	integration string
	connection  string // the one that it names; empty: the one for each host
}

// user is the proxy's user name for it.
func (i identity) user() string {
	if i.connection == "" {
		return i.integration
	}
	return i.integration + "." + i.connection
}

// identityFlags give a command --integration and --connection.
func (a *app) identityFlags(cmd *cobra.Command) func() identity {
	integration := a.integrationFlag(cmd)
	connection := cmd.Flags().StringP("connection", "c", "", "`NAME` of the one connection whose credential may be used; without it, the one for each host")
	a.completeFlag(cmd, "connection", connectionNames(integration, usableConnection))
	return func() identity { return identity{*integration, *connection} }
}

func newRunCommand(a *app) *cobra.Command {
	var who func() identity
	scrubs := false
	cmd := &cobra.Command{
		Use:   runName + " [flags] [--] COMMAND [ARG...]",
		Short: "Run a command whose requests get their credentials here",
		Long: "Runs a command with every variable that clients need to go through the proxy and to trust its CA.\n" +
			"Where no server runs, one is started in the background, which all later runs share and which ends after\n" +
			"five idle minutes. The command's access token is never stored; it ends with the command.\n\n" +
			"The exit code is the command's, 128 and the signal where one ended it, 125 where run itself failed, 126 where\n" +
			"the command cannot be executed and 127 where there is none.",
		Example: "  attache run -- curl -sS https://api.example.com/me\n  attache run --integration support-bot python bot.py",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("COMMAND is missing: attache run COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			environ := a.environ
			if scrubs {
				environ = a.scrub(environ)
			}
			return a.run(cmd.Context(), who(), environ, args)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	who = a.identityFlags(cmd)
	flags.BoolVar(&scrubs, "scrub-env", false, "replace the credentials in the command's environment by placeholders, and say which")
	return cmd
}

// run runs the command in an environment that is completed, and returns what it
// ended with.
func (a *app) run(ctx context.Context, who identity, environ, args []string) error {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return cannotRun(args[0], err)
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return &exitError{exitRun, err}
	}
	g, release, err := a.grantFor(ctx, cfg, who)
	if err != nil {
		return &exitError{exitRun, err}
	}
	defer release()
	if err := a.checkNamed(ctx, cfg, who); err != nil {
		return &exitError{exitRun, err}
	}
	files, err := a.clientFiles(g)
	if err != nil {
		return &exitError{exitRun, err}
	}
	defer files.use()()
	vars, err := a.clientVariables(g, files)
	if err != nil {
		return &exitError{exitRun, err}
	}
	a.warnOfBypass(ctx, cfg, who)
	child := exec.Command(program, args[1:]...)
	child.Args[0] = args[0]
	child.Env = applied(withoutOwn(environ, cfg), vars)
	child.Stdin, child.Stdout, child.Stderr = a.in, a.out, a.err

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return cannotRun(args[0], err)
	}
	defer forward(signals, child.Process)()
	// Its error is what the state says, or about copying, which is not done here.
	_ = child.Wait()
	if code := exitCode(child.ProcessState); code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

// checkNamed fails where an identity names a connection that does not exist. A
// server must run.
func (a *app) checkNamed(ctx context.Context, cfg configs.Config, who identity) error {
	if who.connection == "" {
		return nil
	}
	c, err := a.runningAPI(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = findConnection(ctx, c, who.integration, who.connection)
	return err
}

// cannotRun says why a command did not begin.
func cannotRun(name string, err error) error {
	var of *exec.Error
	var path *fs.PathError
	if errors.As(err, &of) {
		err = of.Err
	}
	if errors.As(err, &path) {
		err = path.Err
	}
	code := exitNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	return &exitError{code, fmt.Errorf("%s: %w", name, err)}
}

// forward passes signals on to the child until stop. What the terminal sends,
// the child gets without us.
func forward(signals <-chan os.Signal, child *os.Process) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case s := <-signals:
				if !fromTerminal(s) {
					_ = child.Signal(s) // it may have ended
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// withoutOwn is an environment without our own secrets: the command is given the
// use of credentials, not the keys to them.
func withoutOwn(environ []string, cfg configs.Config) []string {
	own := []variable{
		{name: adminTokenVariable, unset: true}, {name: adminTokenFileVariable, unset: true},
		{name: "ATTACHE_UPSTREAM_PROXY", unset: true},
	}
	if name, ok := strings.CutPrefix(cfg.MasterKey, "env:"); ok {
		own = append(own, variable{name: name, unset: true})
	}
	return applied(environ, own)
}

// placeholder stands for a credential. Programs that demand one are content with
// it, and where the proxy has the real one, it takes the place of this.
const placeholder = "attache-placeholder"

// scrub replaces what looks like a credential, and says where. What the command gets
// none of, or anew, stays as it is.
func (a *app) scrub(environ []string) []string {
	replaced := []string{adminTokenVariable, adminTokenFileVariable, "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"}
	var scrubbed, names []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if to := harmless(name, value); to != value && !slices.Contains(replaced, strings.ToUpper(name)) {
			names = append(names, name)
			e = name + "=" + to
		}
		scrubbed = append(scrubbed, e)
	}
	if len(names) > 0 {
		fmt.Fprintf(a.err, "attache: replaced by placeholders in the command's environment: %s\n", strings.Join(names, ", "))
	}
	return scrubbed
}

var (
	urlWithUser = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://[^@\s]*@`)
	urlPassword = regexp.MustCompile(`(://[^/?#@:\s]*:)[^/?#@\s]+@`)
)

// harmless is a variable's value without a credential: the placeholder, where the
// variable is called like one and names no file; URLs without their passwords, however
// many there are; and what would be one if its password were escaped, not at all.
func harmless(name, value string) string {
	if value == "" {
		return ""
	}
	if isCredential(name) && !(filepath.IsAbs(value) && exists(value)) {
		return placeholder
	}
	if safe := urlPassword.ReplaceAllString(value, "${1}"+placeholder+"@"); safe != value {
		return safe
	}
	if _, err := url.Parse(value); err != nil && urlWithUser.MatchString(value) {
		return placeholder
	}
	return value
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// isCredential goes by the last word of the name, less a number or a version behind it,
// and an s at its end. Names of files and public keys are no credentials.
func isCredential(name string) bool {
	words := strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for len(words) > 1 && strings.Trim(words[len(words)-1], "V0123456789") == "" {
		words = words[:len(words)-1]
	}
	rest := strings.Join(words, "_")
	for _, end := range []string{"APPLICATION_CREDENTIALS", "PUBLIC_KEY", "PUBLISHABLE_KEY"} {
		if strings.HasSuffix(rest, end) {
			return false
		}
	}
	if rest == "" || rest == "PWD" {
		return false
	}
	last := strings.TrimRight(words[len(words)-1], "0123456789")
	return endsCredential(last) || endsCredential(strings.TrimSuffix(last, "S")) || strings.HasSuffix(rest, "SECRET_KEY_BASE")
}

// endsCredential tells whether names of credentials end with that word.
func endsCredential(word string) bool {
	switch word {
	case "KEY", "APIKEY", "TOKEN", "AUTHTOKEN", "SECRET", "CREDENTIAL",
		"PASSWORD", "PGPASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PGPASS", "PWD",
		"PAT", "AUTH", "JWT", "BEARER", "AUTHORIZATION", "COOKIE":
		return true
	}
	return false
}
