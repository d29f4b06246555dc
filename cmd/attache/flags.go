package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Where cobra keeps which flags go together.
const (
	required  = cobra.BashCompOneRequiredFlag
	oneOf     = "cobra_annotation_one_required"
	exclusive = "cobra_annotation_mutually_exclusive"
)

// checkFlags refuses flags that do not go together, before cobra does in words
// that say neither what to do nor how the flags are written.
func checkFlags(cmd *cobra.Command) error {
	var wrong []error
	seen := map[string]bool{} // groups, which each of their flags names
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[required] != nil && !f.Changed {
			wrong = append(wrong, fmt.Errorf("--%s is missing: give %s", f.Name, withValue(f)))
		}
		for _, kind := range []string{oneOf, exclusive} {
			for _, group := range f.Annotations[kind] {
				if seen[kind+group] {
					continue
				}
				seen[kind+group] = true
				names := strings.Fields(group)
				given := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !cmd.Flags().Changed(name) })
				switch {
				case kind == oneOf && len(given) == 0:
					wrong = append(wrong, fmt.Errorf("--%s is missing: give one of them", strings.Join(names, " or --")))
				case kind == exclusive && len(given) > 1:
					wrong = append(wrong, fmt.Errorf("--%s exclude each other: leave one of them out", strings.Join(given, " and --")))
				}
			}
		}
	})
	return errors.Join(wrong...)
}

// withValue is a flag as it is given.
func withValue(f *pflag.Flag) string {
	value, _ := pflag.UnquoteUsage(f)
	return "--" + f.Name + " " + value
}

// flagName is what a flag is called; short is one letter, or empty.
type flagName struct{ long, short string }

// choice is the value of a flag that takes one of a few words.
type choice[T ~string] struct {
	value *T
	of    []T
}

// choiceFlag gives a command a flag that takes one of a few words, which
// completion offers. What value holds before is the default.
func choiceFlag[T ~string](cmd *cobra.Command, value *T, name flagName, usage string, of ...T) {
	cmd.Flags().VarP(choice[T]{value, of}, name.long, name.short, usage)
	completeWith(cmd, name.long, cobra.FixedCompletions(choice[T]{value, of}.words(), cobra.ShellCompDirectiveNoFileComp))
}

func (c choice[T]) words() []string {
	words := make([]string, len(c.of))
	for i, w := range c.of {
		words[i] = string(w)
	}
	return words
}

// The methods of pflag.Value.

func (c choice[T]) String() string {
	if c.value == nil {
		return ""
	}
	return string(*c.value)
}

func (c choice[T]) Type() string { return strings.Join(c.words(), "|") }

func (c choice[T]) Set(s string) error {
	if !slices.Contains(c.of, T(s)) {
		return fmt.Errorf("must be one of %s", strings.Join(c.words(), ", "))
	}
	*c.value = T(s)
	return nil
}

// lifetime is the value of --expires: how long something is valid. Zero is for
// ever. Beside the units of [time.ParseDuration] it knows days.
type lifetime time.Duration

const (
	day         = 24 * time.Hour
	maxLifetime = 100 * 365 * day
)

func expiresFlag(cmd *cobra.Command, what string) *lifetime {
	var l lifetime
	cmd.Flags().Var(&l, "expires", "how long the "+what+" is valid, such as 90m, 24h or 30d; never ends if not given")
	return &l
}

// from is when what begins now ends: the zero time for never.
func (l lifetime) from(now time.Time) time.Time {
	if l == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(l))
}

func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

func (l *lifetime) Type() string { return "duration" }

func (l *lifetime) Set(s string) error {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16) // more days than a lifetime may have
		d = time.Duration(n) * day
	}
	switch {
	case err != nil:
		return errors.New("must be a number and its unit, such as 90m, 24h or 30d")
	case d <= 0 || d > maxLifetime:
		return errors.New("must be more than nothing and at most 36500d")
	}
	*l = lifetime(d)
	return nil
}

// ports are the value of a flag that can be repeated, or given several at once.
type ports []uint16

func (p *ports) String() string {
	texts := make([]string, len(*p))
	for i, port := range *p {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}

func (p *ports) Type() string { return "port" }

func (p *ports) Set(s string) error {
	for text := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return errors.New("must be a number from 1 to 65535")
		}
		*p = append(*p, uint16(n))
	}
	return nil
}
