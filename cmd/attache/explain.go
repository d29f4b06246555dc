package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"attache"
	"attache/client"
)

func newExplainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain [METHOD] URL",
		Short: "Say what would happen to a request, and why",
		Long: `Say what the proxy would do with a request, by the code that does it: the decision and its
reason, the connections that were considered, what is removed from the client's request, and
the header that is added, its value redacted. Nothing is sent.`,
		Example: `  attache explain https://api.example.com/tickets
  attache explain --integration support-bot --connection tickets POST https://api.example.com/tickets`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactly("URL")(cmd, args)
			}
			return exactly("METHOD", "URL")(cmd, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	var q client.Question
	integration := a.integrationFlag(cmd)
	cmd.Flags().StringVarP(&q.Connection, "connection", "c", "", "`NAME` of the connection that the client would name")
	a.completeFlag(cmd, "connection", connectionNames(integration, usableConnection))
	out := outputFlag(cmd)
	cmd.RunE = a.calling(func(ctx context.Context, c *client.Client, args []string) error {
		q.Integration, q.URL = *integration, args[len(args)-1]
		if len(args) == 2 {
			q.Method = args[0]
		}
		e, err := c.Explain(ctx, q)
		if err != nil {
			return noIntegration(err, *integration)
		}
		if *out != asTable {
			return out.encode(cmd.OutOrStdout(), e)
		}
		return writeExplanation(cmd.OutOrStdout(), e, a.colours())
	})
	return cmd
}

func writeExplanation(w io.Writer, e client.Explanation, paint colours) error {
	var b strings.Builder
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-11s %s\n", label, value)
		}
	}
	decisions := map[attache.Action]string{
		attache.Inject:  paint.green("inject"),
		attache.Tunnel:  paint.yellow("tunnel") + ", not decrypted",
		attache.Forward: paint.yellow("forward") + ", without a credential",
		attache.Deny:    paint.red("deny"),
	}
	line("Decision", decisions[e.Action])
	line("Code", printable(string(e.Code)))
	line("Target", printable(e.Target))
	line("Why", printable(e.Reason))
	line("Connection", printable(e.Connection))
	if e.Header != "" {
		line("Adds", printable(e.Header+": "+cmp.Or(e.Value, "the token, once it is here")))
	}
	if len(e.Candidates) > 0 {
		b.WriteString("\n" + paint.bold("Connections considered") + "\n")
	}
	for _, c := range e.Candidates {
		mark := paint.red("✗")
		if c.Chosen {
			mark = paint.green("✓")
		}
		fmt.Fprintf(&b, "  %s %s %s\n    %s\n", mark, printable(c.Connection), paint.faint("for "+printable(string(c.AllowedDomain))), printable(c.Why))
	}
	if len(e.Strips) > 0 {
		b.WriteString("\n" + paint.bold("Removed from the client's request, beside what is between it and the proxy alone") + "\n")
		b.WriteString(wrapped(printable(strings.Join(e.Strips, ", "))))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrapped breaks a text into indented lines.
func wrapped(s string) string {
	const indent, width = "  ", 96
	var b strings.Builder
	line := indent
	for word := range strings.FieldsSeq(s) {
		if len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
