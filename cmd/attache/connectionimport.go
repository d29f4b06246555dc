package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age/armor"
	"github.com/spf13/cobra"

	"attache/client"
)

func newConnectionImport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE|-]",
		Short: "Make the oauth connection that was exported on another machine",
		Long: `Make the connection that attache connection export has written on another machine, with its
grant and its OAuth client. While a server runs, it is refreshed from then on.

The file is read from standard input where none is named, and can be pasted on a terminal. What
opens it is the file with the identity that age-keygen wrote, or the passphrase that it was
exported with. That is asked for on a terminal; elsewhere it comes from --passphrase-file.

The name must be free, and an OAuth client that is there already must be the same. A move is
imported once only, for then its grant is in use.`,
		Example: `  attache connection import calendar.age
  attache connection import --identity key.txt calendar.age
  ssh laptop attache connection export calendar --move --recipient age1... | attache connection import --identity key.txt`,
		Args:              atMostOneFile,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	integration := a.integrationFlag(cmd)
	var identity, passphrase secretFile
	flags := cmd.Flags()
	flags.StringVar((*string)(&identity), "identity", "", "`FILE` with the identity that age-keygen wrote, or - for standard input")
	flags.StringVar((*string)(&passphrase), "passphrase-file", "", "`FILE` that holds the passphrase, or - for standard input; one line break at its end is not part of it")
	cmd.MarkFlagsMutuallyExclusive("identity", "passphrase-file")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		from := stdin
		if len(args) > 0 {
			from = secretFile(args[0])
		}
		if from == stdin && (identity == stdin || passphrase == stdin) {
			return usagef("the file and what opens it cannot both come from standard input: name a file for one of them")
		}
		var in client.Import
		if in.File, err = a.readExport(cmd.Context(), from); err != nil {
			return err
		}
		if identity != "" {
			in.Identity.Text, err = a.neededSecret(cmd.Context(), "identity", identity, "identity")
		} else {
			in.Passphrase.Text, err = a.neededSecret(cmd.Context(), "passphrase-file", passphrase, passphraseLabel)
		}
		if err != nil {
			return err
		}
		return a.withAPI(cmd, func(ctx context.Context, c *client.Client) error {
			made, err := c.ImportConnection(ctx, *integration, in)
			if err != nil {
				return noIntegration(renamed(err, func(field string) string {
					switch {
					case field == "file":
						return exportName(from)
					case flagOf(cmd, field) == field:
						return exportName(from) + ": " + field
					}
					return field
				}), *integration)
			}
			a.hint("Connection %s is imported, and refreshed from now on while a server runs. See that it works:\n"+
				"attache connection test %[1]s --integration %s", made.Name, *integration)
			return out.write(cmd, made, connectionDetails(made))
		})
	}
	return cmd
}

// binaryExport begins a file without armor, which age writes where it is not asked
// for one.
const binaryExport = "age-encryption.org/v1\n"

// readExport reads an age file, and gives it armor where it has none.
func (a *app) readExport(ctx context.Context, from secretFile) (string, error) {
	text, err := a.exportText(ctx, from)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the file of the export: %w", withoutPath(err))
	case len(bytes.TrimSpace(text)) == 0:
		return "", fmt.Errorf("%s is empty: give what attache connection export wrote", exportName(from))
	case len(text) > maxExport:
		return "", fmt.Errorf("%s is longer than 512 KiB, which no export is", exportName(from))
	case !bytes.HasPrefix(text, []byte(binaryExport)):
		return strings.TrimSpace(string(text)) + "\n", nil
	}
	var out bytes.Buffer
	w := armor.NewWriter(&out)
	_, err = w.Write(text)
	err = errors.Join(err, w.Close())
	return out.String(), err
}

// exportName is how errors call the file, once it is known to be one: what does
// not exist may be a secret in the wrong place.
func exportName(from secretFile) string {
	if from == stdin {
		return "standard input"
	}
	return "file " + string(from)
}

// exportText is what is in the file, or is pasted.
func (a *app) exportText(ctx context.Context, from secretFile) ([]byte, error) {
	if from != stdin {
		f, err := os.Open(string(from))
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return io.ReadAll(io.LimitReader(f, maxExport+1))
	}
	if _, ok := a.terminal(); !ok {
		return io.ReadAll(io.LimitReader(a.in, maxExport+1))
	}
	a.hint("Paste the export, from the first line to the last:")
	return interruptible(ctx, func() ([]byte, error) {
		var text []byte
		for len(text) <= maxExport {
			line, err := readLine(a.in)
			if err != nil || line == "" && len(text) > 0 {
				return text, err
			}
			text = append(append(text, line...), '\n')
			if line == armor.Footer {
				break
			}
		}
		return text, nil
	})
}
