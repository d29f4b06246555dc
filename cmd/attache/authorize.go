package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/cli/browser"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"attache"
	"attache/client"
	"attache/secret"
)

// authorization leads a person through the authorization of one connection.
type authorization struct {
	*app
	api          *client.Client
	integration  string
	before       client.Connection // as it was when this began
	callbackPort uint16            // 0: the kernel chooses
}

// errTooLate: an authorization has expired.
var errTooLate = errors.New("nobody has come back in time, and nothing was changed: start again")

// begin begins an authorization, and bounds ctx by the time that there is for it.
func (z authorization) begin(ctx context.Context, in client.Authorize) (client.Authorization, context.Context, context.CancelFunc, error) {
	begun, err := z.api.Authorize(ctx, z.integration, z.before.Name, in)
	if err != nil {
		return begun, nil, nil, err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, begun.ExpiresAt, errTooLate)
	return begun, ctx, cancel, nil
}

func (z authorization) finish(ctx context.Context, state string, answer secret.Text) error {
	_, err := z.api.FinishAuthorization(ctx, z.integration, z.before.Name, state, answer)
	return err
}

func newConnectionAuthorize(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "authorize NAME",
		Short: "Let a person authorize an oauth connection",
		Long: `Let a person authorize a connection of type oauth at its provider. There are three ways:

  (no flag)      opens the browser of this machine, which comes back to a port on loopback
  --no-browser   prints the address for a browser anywhere, and takes back the address that it
                 ends at, or the code in it: at a prompt, or as a line on standard input
  --device       prints a code to type in on another device, where the provider has that

The provider has to know where the browser comes back to: without a flag
http://127.0.0.1` + callbackPath + ` with any port, or with the one that --callback-port names;
with --no-browser and no --callback-port, the callback URL that attache client show prints.

Until the new tokens are stored, the connection keeps those that it has. Ctrl-C gives up, and
so does this command when nobody has come back within ten minutes. Where no server runs, other
commands on the data directory have to wait meanwhile.`,
		Example: `  attache connection authorize helpdesk
  attache connection authorize helpdesk --no-browser
  attache connection authorize helpdesk --device`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, oauthConnectionNames(integration, anyConnection))
	var noBrowser, device bool
	var port uint16
	flags := cmd.Flags()
	flags.BoolVar(&noBrowser, "no-browser", false, "open no browser; take back the code by hand")
	flags.BoolVar(&device, "device", false, "use a device code (RFC 8628)")
	flags.Uint16Var(&port, "callback-port", 0, "`PORT` on loopback that the browser comes back to, where the provider has to know it (default any)")
	cmd.MarkFlagsMutuallyExclusive("no-browser", "device")
	cmd.MarkFlagsMutuallyExclusive("device", "callback-port")
	completeWith(cmd, "callback-port", cobra.NoFileCompletions)
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		found, err := findConnection(ctx, c, *integration, args[0])
		if err != nil {
			return err
		}
		if found.Type != attache.OAuth {
			return fmt.Errorf("connection %s is of type %s: only those of type oauth are authorized", found.Name, found.Type)
		}
		z := authorization{app: a, api: c, integration: *integration, before: found, callbackPort: port}
		lead := z.withBrowser
		switch {
		case noBrowser:
			lead = z.byHand
		case device:
			lead = z.withDevice
		}
		err = lead(ctx)
		var interrupted *exitError
		if err != nil && ctx.Err() != nil || errors.As(err, &interrupted) {
			return &exitError{code: exitInterrupted, err: fmt.Errorf("given up: attache connection show %s --integration %s says how it stands", args[0], *integration)}
		}
		if err != nil {
			return err
		}
		done, err := c.Connection(ctx, *integration, attache.OAuth, args[0])
		if err != nil {
			return noConnection(err, *integration, args[0])
		}
		a.hint("Connection %s is authorized. See that it works: attache connection test %[1]s --integration %s", done.Name, *integration)
		return out.write(cmd, done, connectionDetails(done))
	})
	return cmd
}

// withBrowser opens the browser of this machine and waits for it to come back.
func (z authorization) withBrowser(ctx context.Context) error {
	l, err := listenForBrowser(ctx, z.callbackPort)
	if err != nil {
		return err
	}
	defer func() { _ = l.listener.Close() }() // await has, but where it was not reached
	begun, ctx, cancel, err := z.begin(ctx, client.Authorize{Flow: client.CodeFlow, RedirectURL: l.url()})
	if err != nil {
		return err
	}
	defer cancel()
	z.hint("Authorize the connection in the browser that opens now. If none does, go to\n\n  %s\n", begun.AuthorizationURL)
	notices := make(chan string, 1)
	go openBrowser(begun.AuthorizationURL, notices)
	defer z.countDown("Waiting for the browser to come back", begun.ExpiresAt, notices)()
	return l.await(ctx, begun.State, func(query string) error {
		return z.finish(ctx, begun.State, secret.New(query))
	})
}

// openBrowser opens the browser, and returns once that has ended or has gone to
// the background. Where there is none, people need to know.
func openBrowser(url string, notices chan<- string) {
	browser.Stdout, browser.Stderr = io.Discard, io.Discard
	if err := browser.OpenURL(url); err != nil {
		notices <- "No browser could be opened. On a machine without one, use --no-browser or --device."
	}
}

// byHand prints where to go and asks for what comes back.
func (z authorization) byHand(ctx context.Context) error {
	in := client.Authorize{Flow: client.CodeFlow} // back to the server
	if z.callbackPort != 0 {
		in.RedirectURL = loopbackURL(fmt.Sprintf("127.0.0.1:%d", z.callbackPort)) // where nobody listens
	}
	begun, ctx, cancel, err := z.begin(ctx, in)
	if err != nil {
		return err
	}
	defer cancel()
	z.hint("Authorize the connection in a browser, until %s:\n\n  %s\n\n"+
		"If the browser then says that the connection is authorized, press Enter here. Otherwise, even if\n"+
		"it shows no page, paste the address that it ends at, or the code in that.",
		begun.ExpiresAt.Local().Format(time.TimeOnly), begun.AuthorizationURL)
	answer, err := z.pasted(ctx)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	if answer.IsZero() {
		return z.finishedElsewhere(ctx)
	}
	return z.finish(ctx, begun.State, answer)
}

// pasted is what a person pastes at a prompt, or a line of standard input.
func (a *app) pasted(ctx context.Context) (secret.Text, error) {
	const label = "address or code"
	if fd, ok := a.terminal(); ok {
		return a.promptSecret(ctx, fd, label)
	}
	line, err := interruptible(ctx, func() (string, error) { return readLine(a.in) })
	if err != nil {
		return secret.Text{}, err
	}
	return checked(line, label)
}

// finishedElsewhere is nil where the server's callback URL has had the answer.
func (z authorization) finishedElsewhere(ctx context.Context) error {
	now, err := z.api.Connection(ctx, z.integration, attache.OAuth, z.before.Name)
	if err == nil && !now.RefreshedAt.After(z.before.RefreshedAt) {
		err = errors.New("the connection is not authorized, and there is no address or code: start again")
	}
	return err
}

// withDevice prints a code for another device and asks the provider, as often as
// it allows, whether somebody has typed it in.
func (z authorization) withDevice(ctx context.Context) error {
	begun, ctx, cancel, err := z.begin(ctx, client.Authorize{Flow: client.DeviceFlow})
	if err != nil {
		return err
	}
	defer cancel()
	z.hint("Open this page on any device\n\n  %s\n\nand type in this code\n\n%s", begun.VerificationURI, framed(begun.UserCode))
	if begun.VerificationURIComplete != "" {
		z.hint("or open this one, which has the code in it\n\n  %s\n", begun.VerificationURIComplete)
	}
	defer z.countDown("Waiting for the code to be typed in", begun.ExpiresAt, nil)()
	wait := time.NewTimer(time.Duration(begun.Interval) * time.Second)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wait.C:
		}
		p, err := z.api.PollAuthorization(ctx, z.integration, z.before.Name, begun.State)
		if err != nil || p.Done {
			return cmp.Or(context.Cause(ctx), err)
		}
		wait.Reset(max(time.Duration(p.Interval)*time.Second, time.Second))
	}
}

// framed is a code that can be read from across the desk.
func framed(code string) string {
	line := strings.Repeat("─", utf8.RuneCountInString(code)+6)
	return "  ┌" + line + "┐\n  │   " + code + "   │\n  └" + line + "┘\n"
}

// countDown says what is waited for until stop: on a terminal how long yet, each
// second anew, elsewhere once. Notices come in between.
func (a *app) countDown(what string, until time.Time, notices <-chan string) (stop func()) {
	const clear = "\r\x1b[K"
	f, ok := a.err.(*os.File)
	onTerminal := ok && term.IsTerminal(int(f.Fd()))
	if !onTerminal {
		a.hint("%s, until %s.", what, until.Local().Format(time.TimeOnly))
	}
	show := func(s string) {
		if onTerminal {
			_, _ = fmt.Fprint(f, clear+s)
		}
	}
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		defer show("")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			left := max(time.Until(until), 0).Round(time.Second)
			show(fmt.Sprintf("%s: %d:%02d left, Ctrl-C gives up", what, int(left.Minutes()), int(left.Seconds())%60))
			select {
			case <-tick.C:
			case notice := <-notices:
				show("")
				a.hint("%s", notice)
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-stopped
	}
}
