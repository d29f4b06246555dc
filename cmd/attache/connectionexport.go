package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
)

// maxExport bounds a file that is imported or lists recipients, in bytes.
const maxExport = 512 << 10

func newConnectionExport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Write an oauth connection to an encrypted file, for another machine",
		Long: `Write a connection of type oauth, its grant and its OAuth client to an encrypted file, which
attache connection import reads on another machine:

  --move   the connection goes there: here nothing of it is refreshed or sent any more
  --copy   it is used on both, which few providers allow. Where the provider replaces the refresh
           token at each use, or may, that needs --force

The file is one of age, with armor. --recipient says who can open it, by the public key that
age-keygen prints; without, a passphrase does, which is asked for on a terminal and elsewhere
comes from --passphrase-file.

A move is given up here before the file is written, and held back until it is on disk: should
anything fail in between, the same command does the same move again, and no grant is lost. What
goes through a pipe is held back until the connection is deleted, for who knows where it got to.
A move can be imported once only.`,
		Example: `  attache connection export calendar --move --output calendar.age
  attache connection export calendar --move --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p --output calendar.age
  attache connection export calendar --copy --recipients-file team.txt | ssh server attache connection import --identity key.txt`,
		Args: exactly("NAME"),
	}
	integration := a.integrationFlag(cmd)
	a.completeName(cmd, oauthConnectionNames(integration, exportedConnection))
	var move, force bool
	var output string
	flags := cmd.Flags()
	flags.BoolVar(&move, "move", false, "give the connection up here")
	flags.Bool("copy", false, "use it on both machines")
	flags.BoolVar(&force, "force", false, "copy although only one machine may be able to use the refresh token")
	flags.StringVar(&output, "output", "-", "`FILE` to write, which must not exist, or - for standard output")
	cmd.MarkFlagsOneRequired("move", "copy")
	cmd.MarkFlagsMutuallyExclusive("move", "copy")
	cmd.MarkFlagsMutuallyExclusive("move", "force")
	lock := newLockFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		found, err := a.lookUp(cmd, *integration, args[0])
		if err != nil {
			return err
		}
		if found.Type != attache.OAuth {
			return fmt.Errorf("connection %s is of type %s, whose credential never comes out: make it anew on the other machine", found.Name, found.Type)
		}
		in := client.Export{Mode: client.Copy, Force: force}
		if move {
			in.Mode = client.Move
		}
		if err := lock.read(cmd.Context(), a, &in); err != nil {
			return err
		}
		file, err := a.createExport(output)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.end()) }()
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			return renamed(a.export(ctx, transfer{c, *integration, found.Name}, in, file), lock.flagOf)
		})
	}
	return cmd
}

// transfer is which connection is exported, and over which API.
type transfer struct {
	*client.Client
	integration, name string
}

// export writes a connection to a file, and confirms a move when that is safe.
func (a *app) export(ctx context.Context, t transfer, in client.Export, file *exportFile) error {
	at := t.name + " --integration " + t.integration
	exported, err := t.ExportConnection(ctx, t.integration, t.name, in)
	if err != nil {
		if refused := (*client.Error)(nil); in.Mode == client.Move && !errors.As(err, &refused) {
			a.hint("It is not known whether the connection is given up: attache connection show %s says so.\n"+
				"If it is, it is held back, and the same command does the same move again.", at)
		}
		return noConnection(err, t.integration, t.name)
	}
	safe, err := file.write(exported.File)
	switch {
	case err != nil && in.Mode == client.Move:
		return fmt.Errorf("%w: connection %s is given up here and held back: export it again, to where there is room", err, t.name)
	case err != nil:
		return err
	case in.Mode == client.Copy:
		a.hint("Connection %s is copied. On the other machine: attache connection import %s", t.name, file.name())
		return nil
	case !safe:
		a.hint("Connection %s is moved, and held back here in case that what was written gets lost: the same\n"+
			"command does the same move again. Once it is imported: attache connection delete %s", t.name, at)
		return nil
	}
	if _, err := t.ConfirmMove(ctx, t.integration, t.name, exported.ExportID); err != nil {
		return fmt.Errorf("%s is whole and can be imported, but the grant is held back here as well: %w: "+
			"once it is imported, attache connection delete %s", file.name(), err, at)
	}
	a.hint("Connection %s is moved: nothing of it is refreshed or sent here any more. On the other machine:\n"+
		"attache connection import %s", t.name, file.name())
	return nil
}

// lockFlags say who can open an export.
type lockFlags struct {
	recipients     []string
	recipientsFile string
	passphrase     secretFile
}

func newLockFlags(cmd *cobra.Command) *lockFlags {
	l := new(lockFlags)
	flags := cmd.Flags()
	flags.StringArrayVar(&l.recipients, "recipient", nil, "`AGE_KEY` of who can open the file, which begins with age1; can be repeated")
	flags.StringVar(&l.recipientsFile, "recipients-file", "", "`FILE` with such keys, one a line; # begins a comment")
	flags.StringVar((*string)(&l.passphrase), "passphrase-file", "", "`FILE` that holds the passphrase, or - for standard input; one line break at its end is not part of it")
	cmd.MarkFlagsMutuallyExclusive("recipient", "passphrase-file")
	cmd.MarkFlagsMutuallyExclusive("recipients-file", "passphrase-file")
	completeWith(cmd, "recipient", cobra.NoFileCompletions)
	return l
}

// read reads who can open an export, and asks for a passphrase where nobody is
// named.
func (l *lockFlags) read(ctx context.Context, a *app, in *client.Export) (err error) {
	in.Recipients = l.recipients
	if l.recipientsFile != "" {
		listed, err := readRecipients(l.recipientsFile)
		if err != nil {
			return fmt.Errorf("read the file that --recipients-file names: %w", withoutPath(err))
		}
		in.Recipients = append(in.Recipients, listed...)
	}
	if len(in.Recipients) > 0 {
		return nil
	}
	if in.Passphrase.Text, err = a.neededSecret(ctx, "passphrase-file", l.passphrase, passphraseLabel); err != nil || l.passphrase != "" {
		return err
	}
	again, err := a.readSecret(ctx, "passphrase-file", "", passphraseLabel+" again")
	if err == nil && !again.Equal(in.Passphrase.Text) {
		err = errors.New("the two passphrases are not the same: nothing was changed")
	}
	return err
}

// flagOf is where the recipients come from, as errors call them.
func (l *lockFlags) flagOf(field string) string {
	switch {
	case field != "recipients" || l.recipientsFile == "":
		return field
	case len(l.recipients) == 0:
		return "--recipients-file"
	}
	return "--recipient and --recipients-file"
}

const passphraseLabel = "passphrase"

// readRecipients reads a file as age's -R does.
func readRecipients(path string) (all []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(io.LimitReader(f, maxExport))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return all, nil
}

// exportFile is where an export goes. It is made first, for most of what can go
// wrong with a file goes wrong then.
type exportFile struct {
	to    io.Writer
	path  string // empty: standard output
	whole bool
}

func (a *app) createExport(path string) (*exportFile, error) {
	switch path {
	case "-":
		return &exportFile{to: a.out}, nil
	case "":
		return nil, errors.New("--output is empty: give the name of a file, or - for standard output")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("--output %s: the file exists, and may be the only copy of a grant: choose another name, or remove it first", path)
	}
	if err != nil {
		return nil, fmt.Errorf("--output %s: %w", path, withoutPath(err))
	}
	return &exportFile{to: f, path: path}, nil
}

// name is how people call the file.
func (e *exportFile) name() string { return cmp.Or(e.path, "FILE") }

// write writes all of the file, and tells whether it is on a disk then.
func (e *exportFile) write(text string) (safe bool, err error) {
	if _, err := io.WriteString(e.to, text); err != nil {
		return false, fmt.Errorf("write the export: %w", withoutPath(err))
	}
	e.whole = true
	f, ok := e.to.(*os.File)
	if !ok {
		return false, nil
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	if err := f.Sync(); err != nil {
		return false, fmt.Errorf("write the export: %w", withoutPath(err))
	}
	if e.path == "" {
		return true, nil
	}
	return true, syncDir(filepath.Dir(e.path))
}

// end closes the file, and removes one that is not whole.
func (e *exportFile) end() error {
	f, ok := e.to.(*os.File)
	if e.path == "" || !ok {
		return nil
	}
	err := f.Close()
	if !e.whole {
		return errors.Join(err, os.Remove(e.path))
	}
	return err
}

// syncDir makes it last that a file is in a directory.
func syncDir(path string) error {
	if runtime.GOOS == "windows" { // cannot sync a directory, and need not
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
