package configs

import "strings"

// Flag is the command line's word on one key. It has the methods of
// pflag.Value. What is typed is checked at once; [Flag.Apply] sets it later, over
// what file and environment said.
type Flag struct {
	Name  string // without dashes
	Usage string // one line
	// Bare is the value of the flag without one: "true" for a bool, else empty.
	// It is pflag's NoOptDefVal.
	Bare string

	key   Key
	texts []string // as typed; more than one where the flag of a list is repeated
}

// NewFlags makes one flag for each key, in the order of [Keys]. The flag of a
// secret takes the path of a file that holds it.
func NewFlags() []*Flag {
	var flags []*Flag
	for _, k := range Keys() {
		f := &Flag{Name: k.flag, Usage: k.Usage(), key: k}
		if f.Name == "" {
			f.Name = strings.NewReplacer(".", "-", "_", "-").Replace(k.Name)
		}
		if k.Secret {
			f.Name += "-file"
			f.Usage = "File with: " + f.Usage
		}
		if f.Type() == "bool" {
			f.Bare = "true"
		}
		flags = append(flags, f)
	}
	return flags
}

// String is what was typed, or the default.
func (f *Flag) String() string {
	switch {
	case len(f.texts) > 0:
		return strings.Join(f.texts, ",")
	case f.key.Secret:
		return ""
	default:
		c := Default()
		return f.key.Text(&c)
	}
}

// Type names the sort of value, for a help page.
func (f *Flag) Type() string {
	if f.key.Secret {
		return "file"
	}
	return f.key.at(new(Config)).kind.name
}

// Set takes what was typed. Of a list, it adds to what was typed before; of
// anything else, the last one counts.
func (f *Flag) Set(text string) error {
	var scratch Config
	if err := f.apply(&scratch, text); err != nil {
		return err
	}
	if !f.key.at(&scratch).isList() {
		f.texts = nil
	}
	f.texts = append(f.texts, text)
	return nil
}

// Apply sets the key in c, if the flag was given.
func (f *Flag) Apply(c *Config) error {
	if len(f.texts) == 0 {
		return nil
	}
	return f.apply(c, strings.Join(f.texts, ","))
}

func (f *Flag) apply(c *Config, text string) error {
	if f.key.Secret {
		return f.key.setFromFile(c, text)
	}
	return f.key.Set(c, text)
}
