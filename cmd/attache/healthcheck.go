package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

const healthPath = "/healthz"

func newHealthcheckCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the server of this configuration whether it is alive",
		Long:  "Asks " + healthPath + " of the metrics listener. The exit code is 0 where it answers and 1 where it does not, as\nDocker's HEALTHCHECK has it.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			if !cfg.Metrics.Listen.IsValid() {
				return errors.New("the metrics listener is off, and it is what answers: give it an address with --metrics-listen")
			}
			if cfg.Metrics.Listen.Port() == 0 {
				return errors.New("the metrics listener's port is chosen by the kernel, so it cannot be asked: give it one with --metrics-listen")
			}
			url := "http://" + reachable(cfg.Metrics.Listen.String()) + healthPath
			r, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			asking := straight()
			asking.Timeout = askTimeout
			resp, err := asking.Do(r)
			if err != nil {
				return fmt.Errorf("nobody is alive: %w", err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answered %s", url, resp.Status)
			}
			return nil
		},
	}
	a.register(cmd.Flags(), "metrics-listen")
	return cmd
}
