package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"attache/client"
)

func newCACommand(a *app) *cobra.Command {
	return newGroup("ca", "Manage the CA that clients of the proxy have to trust",
		newCAShow(a), newCAExport(a), newCAPath(a), newCAInstall(a), newCAUninstall(a), newCARotate(a), newCADrop(a))
}

func newCAShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show", Short: "Show the CA's certificates, the signing one first", Args: exactly(),
		Example: "  attache ca show -o json",
	}
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		ca, err := c.CA(ctx)
		if err != nil {
			return err
		}
		return out.write(cmd, ca, certificateTable(ca))
	})
	return cmd
}

func certificateTable(ca client.CA) table {
	t := table{columns: []string{"FINGERPRINT (SHA-256)", "SUBJECT", "EXPIRES", "SIGNS"}}
	for _, one := range ca.Certificates {
		signs := "no, trusted until it is dropped"
		if one.Signing {
			signs = "yes"
		}
		t.add(one.Fingerprint, one.Subject, expiry(one.NotAfter), signs)
	}
	return t
}

func newCAExport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the CA's certificates as PEM",
		Long: "Write the certificates that clients have to trust as PEM, to standard output or to a file.\n" +
			"They are no secret.",
		Example: "  attache ca export --output attache-ca.pem",
		Args:    exactly(),
	}
	file := cmd.Flags().String("output", "", "`FILE` to write, replaced in one step; standard output if not given")
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		ca, err := c.CA(ctx)
		if err != nil {
			return err
		}
		if *file == "" {
			_, err := io.WriteString(cmd.OutOrStdout(), ca.PEM)
			return err
		}
		if err := writeFile(*file, []byte(ca.PEM), 0o644); err != nil {
			return fmt.Errorf("--output %s: %w", *file, withoutPath(err))
		}
		return nil
	})
	return cmd
}

func newCAPath(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "path",
		Short: "Print the path of the file with the CA's certificates",
		Long: "Print the path of a PEM file in the data directory that always holds the certificates that\n" +
			"clients have to trust, for settings that take a file.",
		Example: `  NODE_EXTRA_CA_CERTS="$(attache ca path)" node bot.js`,
		Args:    exactly(),
	}
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		if a.server() != "" {
			return usagef("the file is on the server's machine: write one here with attache ca export --output FILE")
		}
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(s.DataDir, caFile))
		return err
	})
	return cmd
}

func newCARotate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new CA certificate that signs from now on",
		Long: `Make a new CA certificate that signs from now on. Clients need it before they trust the proxy
again. The files that attache run and attache env have given to clients on this machine get it
first, and programs that start from then on have it; programs that run already have to be
restarted. The old one stays among those to trust until it is dropped (attache ca drop).`,
		Example: "  attache ca rotate && attache ca export --output attache-ca.pem",
		Args:    exactly(),
	}
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		ca, err := c.RotateCA(ctx)
		if err != nil {
			return err
		}
		a.hint("A new certificate signs. Give it to the clients: attache ca export, or attache ca install.\n" +
			"The files of attache run and attache env have it: restart the programs that run already.")
		return out.write(cmd, ca, certificateTable(ca))
	})
	return cmd
}

func newCADrop(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop FINGERPRINT",
		Short: "Take a certificate that no longer signs out of those to trust",
		Long: `Take a certificate that no longer signs out of those to trust, and out of the files that attache
run and attache env have given to clients on this machine. Where attache ca install has
installed it, run attache ca uninstall before, and attache ca install again afterwards.`,
		Example: "  attache ca drop 5f1c...e9",
		Args:    exactly("FINGERPRINT"),
	}
	a.completeName(cmd, oldFingerprints)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		if err := c.DropCA(ctx, args[0]); err != nil {
			return notFound(err, "CA certificate", args[0], "attache ca show lists those that there are")
		}
		a.hint("The certificate is dropped.")
		return nil
	})
	return cmd
}

func newCAInstall(a *app) *cobra.Command {
	return newTrustCommand(a, trustStore.install, &cobra.Command{
		Use:   "install",
		Short: "Put the CA into the system's trust store",
		Long: `Put the CA's certificates into the system's trust store, which needs root. --print shows the
script that does it and changes nothing. Known are Debian, Ubuntu and Alpine, Fedora and RHEL,
Arch, openSUSE, macOS and Windows.

Whoever holds the CA's key, in the data directory, can then answer for any host to any program
of this machine. attache run and attache env need no installation, and are the better choice
where only some programs use the proxy.`,
		Example: "  attache ca install --print | sudo sh",
	})
}

func newCAUninstall(a *app) *cobra.Command {
	return newTrustCommand(a, trustStore.uninstall, &cobra.Command{
		Use:     "uninstall",
		Short:   "Take the CA out of the system's trust store",
		Long:    "Undo attache ca install, which needs root. --print shows the script that does it.",
		Example: "  attache ca uninstall --print | sudo sh",
	})
}

// newTrustCommand completes a command that runs the script which the trust store
// of this system needs.
func newTrustCommand(a *app, script func(trustStore, []*certificate) string, cmd *cobra.Command) *cobra.Command {
	cmd.Args = exactly()
	show := cmd.Flags().Bool("print", false, "print the script that would run, and change nothing")
	change := a.calling(func(ctx context.Context, c *client.Client, _ []string) error {
		system, ok := systemTrust(runtime.GOOS, isDir)
		if !ok {
			return errors.New("this system's trust store is not known: give clients the file that attache ca path names")
		}
		ca, err := c.CA(ctx)
		if err != nil {
			return err
		}
		certificates, err := parseBundle(ca.PEM)
		if err != nil {
			return err
		}
		text := script(system, certificates)
		if *show {
			_, err := io.WriteString(cmd.OutOrStdout(), text)
			return err
		}
		if os.Geteuid() > 0 { // -1 on Windows, which asks by itself
			return fmt.Errorf("the trust store of %s is root's: %s --print shows what has to be done, and %[2]s --print | sudo %[3]s does it",
				system.name, cmd.CommandPath(), system.shell[0])
		}
		a.hint("This runs with %s, for the trust store of %s:\n\n%s", system.shell[0], system.name, text)
		run := exec.CommandContext(ctx, system.shell[0], append(system.shell[1:], text)...)
		run.Stdout, run.Stderr = a.err, a.err
		if err := run.Run(); err != nil {
			return fmt.Errorf("change the trust store of %s: %w", system.name, err)
		}
		return nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if os.Geteuid() == 0 && !a.hasData() { // or a CA that nothing uses would be made here
			return errors.New("there is no CA in root's data directory: name yours with --data-dir, or use attache ca install --print | sudo sh")
		}
		return change(cmd, args)
	}
	return cmd
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
