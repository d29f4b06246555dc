// Attache is a forward proxy that adds the right credential to each request of
// clients that hold none. This package is the one binary: it wires the others
// together and puts a command line on top.
//
// Each subcommand is made by one function, new…Command, in a file of its own, and
// listed in newRoot. What subcommands share is in [app].
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"attache/configs"
)

// version is the program's, set by the linker.
var version string

// Exit codes. The subcommand run adds those of its command.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

func main() {
	// Libraries write to it what upstreams sent them, which may be what was sent
	// to the upstreams.
	log.SetOutput(io.Discard)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		lookup: os.LookupEnv, environ: os.Environ(),
	}
	os.Exit(a.profiled(func() int { return a.execute(context.Background(), os.Args[1:]) }))
}

// app is what the subcommands share: the world outside, and the flags that all
// of them take.
type app struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool) // of environment variables
	environ  []string

	configFile string          // --config
	serverURL  string          // --server
	flags      []*configs.Flag // all keys; each command registers those that it takes

	running bool // a command's own code has begun: what fails now is no wrong usage
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "attache",
		Short: "Adds the right credential to each request of clients that hold none",
		Long: "Attaché is a forward proxy. Clients set HTTPS_PROXY and hold no API key at all; every\n" +
			"request leaves with the credential that is stored for its host, and only for its host.",
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	onlyHolds(root)
	root.SetVersionTemplate("attache {{.Version}}\n")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(suggestFlag)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Name() == cobra.ShellCompRequestCmd {
			unquoteUsages(root)
		}
		return checkFlags(cmd)
	}

	a.flags = configs.NewFlags()
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "config `FILE`; ATTACHE_CONFIG sets the default, and without both there is none")
	flags.StringVar(&a.serverURL, "server", "", "`URL` of a server's admin API, which ATTACHE_ADMIN_TOKEN (or ATTACHE_ADMIN_TOKEN_FILE) opens; ATTACHE_SERVER sets the default; without both, the server of the data directory")
	a.register(flags, "data-dir")

	root.AddCommand(
		newServeCommand(a), newRunCommand(a), newEnvCommand(a), newDemoCommand(a), newHealthcheckCommand(a),
		newIntegrationCommand(a), newTokenCommand(a), newAdminTokenCommand(a), newConnectionCommand(a), newOAuthClientCommand(a),
		newExplainCommand(a), newCACommand(a), newConfigCommand(a), newVersionCommand(),
	)
	addCompletion(root)
	a.markRunning(root)
	return root
}

// execute runs one command line and returns the exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var coded *exitError
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		if coded.err != nil {
			a.complain(coded.err)
		}
		return coded.code
	case errors.As(err, &usage) || !a.running:
		a.complain(err)
		fmt.Fprintf(a.err, "Run '%s --help' for usage.\n", cmd.CommandPath())
		if cmd.Name() == runName {
			return exitRun
		}
		return exitUsage
	default:
		a.complain(err)
		return exitFailure
	}
}

// complain prints an error: a line, and one for each further error that was
// joined to it.
func (a *app) complain(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(a.err, "attache: %s\n", printable(line))
	}
}

// warn prints what goes on although something is not right.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "attache: warning: "+format+"\n", args...)
}

// usageError says that the command line is wrong: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef is an error about the command line, for what cobra cannot know.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// exitError ends the program with a code of its own. Without an error, nothing
// is printed: whoever returns it has said what there is to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// newGroup is a command that only holds others.
func newGroup(use, short string, subcommands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{Use: use, Short: short}
	onlyHolds(group)
	for _, sub := range subcommands {
		if sub.ValidArgsFunction == nil {
			sub.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	group.AddCommand(subcommands...)
	return group
}

// onlyHolds makes a command that shows its help when it is alone, and refuses a
// subcommand that does not exist.
func onlyHolds(group *cobra.Command) {
	group.SuggestionsMinimumDistance = 2
	group.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	group.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		near := ""
		if all := c.SuggestionsFor(args[0]); len(all) > 0 {
			near = ": did you mean " + strings.Join(all, " or ") + "?"
		}
		return fmt.Errorf("unknown command %q for %q%s", args[0], c.CommandPath(), near)
	}
}

// markRunning makes every command below c note that it has begun.
func (a *app) markRunning(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.running = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.markRunning(sub)
	}
}

// programVersion is what the linker set, or what go install recorded.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
