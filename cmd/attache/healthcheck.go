package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"
)

// healthPath is where a server says that it is alive: on the admin socket, and on
// the metrics listener.
const healthPath = "/healthz"

func newHealthcheckCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the server of this configuration whether it is alive",
		Long: "Asks the server on the data directory whether it is alive, over its socket; where that does not answer, and the\n" +
			"metrics listener has an address, asks " + healthPath + " there. The exit code is 0 where one answers and 1 where none\n" +
			"does, as Docker's HEALTHCHECK has it.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.serverURL != "" {
				return usagef("--server is not for healthcheck, which asks the server of this configuration")
			}
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			socket := &http.Client{Transport: socketTransport(filepath.Join(cfg.DataDir, socketFile))}
			err = askHealth(cmd.Context(), socket, "http://attache"+healthPath)
			// It has no port where it is off, or where the kernel chooses one.
			if listen := cfg.Metrics.Listen; err != nil && listen.Port() != 0 {
				err = askHealth(cmd.Context(), straight(), "http://"+reachable(listen.String())+healthPath)
			}
			return err
		},
	}
	a.register(cmd.Flags(), "metrics-listen")
	return cmd
}

// askHealth asks whoever answers at a URL whether it is alive.
func askHealth(ctx context.Context, asking *http.Client, url string) error {
	asking.Timeout = askTimeout
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := asking.Do(r)
	if err != nil {
		return fmt.Errorf("nobody is alive: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return nil
}
