package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// suggestFlag adds the nearest flag to the error about one that does not exist.
// Only its name is repeated: what follows may be a secret, as in -pPASSWORD. So
// may be a parameter for a provider.
func suggestFlag(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) && invalid.GetFlag().Value.Type() == parameterType {
		return fmt.Errorf("invalid argument for \"--%s\" flag: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	var alone *pflag.ValueRequiredError
	if errors.As(err, &alone) {
		return fmt.Errorf("--%s has no value: give %s", alone.GetFlag().Name, withValue(alone.GetFlag()))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	if unknown.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("unknown flag: -%s", unknown.GetSpecifiedName())
	}
	// Commands know how to find the nearest of several names.
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}, Hidden: f.Hidden})
	})
	near := names.SuggestionsFor(unknown.GetSpecifiedName())
	if len(near) == 0 {
		return err
	}
	return fmt.Errorf("%w: did you mean --%s?", err, strings.Join(near, " or --"))
}
