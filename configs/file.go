package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"attache"
)

const (
	maxFileBytes = 1 << 20
	maxErrors    = 20 // of one file; more would not be read
)

// Load reads a config file over the defaults. Nothing is forgiven: an unknown
// or repeated key, a value of another type or out of bounds, an anchor, a
// second document and a file over 1 MiB are errors. All that are found are
// returned together, each with file, line, key and what to do; those about
// values are [attache.FieldError]s. What the keys say together is left to
// [Config.Validate].
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("config file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("config file: %w", err)
	}
	return parse(path, text)
}

// parse is [Load] for a text that is called name in errors.
func parse(name string, text []byte) (Config, error) {
	r := reader{file: name, config: Default(), keys: map[string]Key{}, sections: map[string]bool{}, lines: map[string]int{}}
	for _, k := range Keys() {
		r.keys[k.Name] = k
		if section, _, nested := strings.Cut(k.Name, "."); nested {
			r.sections[section] = true
		}
	}
	r.read(text)
	if len(r.errs) > 0 {
		return Config{}, errors.Join(r.errs...)
	}
	return r.config, nil
}

// reader walks one file's nodes into a Config.
type reader struct {
	file     string
	config   Config
	keys     map[string]Key
	sections map[string]bool
	lines    map[string]int // where each key and section was first given
	errs     []error
}

func (r *reader) fail(line int, err error) {
	switch {
	case err == nil || len(r.errs) > maxErrors:
	case len(r.errs) == maxErrors:
		r.errs = append(r.errs, fmt.Errorf("%s: more errors follow; only the first %d are shown", r.file, maxErrors))
	default:
		r.errs = append(r.errs, fmt.Errorf("%s:%d: %w", r.file, line, err))
	}
}

// refuse fails with a rule that field breaks.
func (r *reader) refuse(line int, field, rule, remedy string) {
	r.fail(line, &attache.FieldError{Field: field, Rule: rule, Remedy: remedy})
}

func (r *reader) read(text []byte) {
	if len(text) > maxFileBytes {
		r.errs = append(r.errs, fmt.Errorf("%s: is over 1 MiB, which no config file needs: give the right file", r.file))
		return
	}
	if at, ok := firstNonText(text); ok {
		r.refuse(1+bytes.Count(text[:at], []byte("\n")), "the file", "holds bytes that are not UTF-8 text", "save it as UTF-8")
		return
	}
	// The reader checks for repeated keys itself: it can name both lines.
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithUniqueKeys(false))
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", r.file, err))
		return
	}
	var document, second yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		return
	case err != nil:
		r.malformed(text, err)
		return
	}
	r.document(&document)
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.malformed(text, err)
	default:
		r.refuse(second.Line, "the file", "holds a second document", `remove the line "---"`)
	}
}

func firstNonText(text []byte) (at int, found bool) {
	for i := 0; i < len(text); {
		c, width := utf8.DecodeRune(text[i:])
		if c == utf8.RuneError && width == 1 || c < ' ' && !strings.ContainsRune("\t\r\n", c) {
			return i, true
		}
		i += width
	}
	return 0, false
}

func (r *reader) document(n *yaml.Node) {
	root := n.Content[0]
	switch {
	case root.Kind == yaml.MappingNode:
		r.mapping("", root)
	case isNull(root):
	default:
		r.refuse(root.Line, "the file", "does not hold keys and values", `write lines such as "listen: 127.0.0.1:3128"`)
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// mapping reads the keys of the file (section is empty) or of one section.
// Values that are aliases are refused before anything follows them, so that a
// small file cannot grow.
func (r *reader) mapping(section string, n *yaml.Node) {
	if n.Anchor != "" {
		r.refuse(n.Line, orTheFile(section), "has an anchor", "remove the & and its name")
	}
	for i := 0; i+1 < len(n.Content) && len(r.errs) <= maxErrors; i += 2 {
		label, value := n.Content[i], n.Content[i+1]
		if label.Kind != yaml.ScalarNode || label.Anchor != "" || !plainKey.MatchString(label.Value) {
			r.refuse(label.Line, orTheFile(section), "holds something that is not a key", r.keysOf(section))
			continue
		}
		if strings.Contains(label.Value, ".") {
			r.refuse(label.Line, label.Value, "is written with a dot", "write the section's name and a colon, and the key below it, indented")
			continue
		}
		name := label.Value
		if section != "" {
			name = section + "." + name
		}
		if first, again := r.lines[name]; again {
			r.refuse(label.Line, name, fmt.Sprintf("was given before, on line %d", first), "keep one of the two")
			continue
		}
		r.lines[name] = label.Line
		r.entry(section, name, value)
	}
}

func (r *reader) entry(section, name string, value *yaml.Node) {
	key, isKey := r.keys[name]
	switch {
	case isKey:
		r.value(key, value)
	case !r.sections[name]:
		remedy := r.keysOf(section)
		if near, ok := nearest(name, r.names()); ok {
			remedy = "did you mean " + near + "?"
		}
		r.refuse(r.lines[name], name, "is not a key", remedy)
	case value.Kind == yaml.MappingNode:
		r.mapping(name, value)
	case isNull(value):
	default:
		r.refuse(value.Line, name, "is a section, not a value", "put its keys below it, indented")
	}
}

func (r *reader) value(key Key, n *yaml.Node) {
	s := key.at(&r.config)
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.refuse(n.Line, key.Name, "uses an anchor", "write the value itself, in quotes where it begins with * or &")
	case isNull(n):
		r.refuse(n.Line, key.Name, "has no value", "give it one, or remove the line to keep the default")
	case n.Kind == yaml.MappingNode:
		r.refuse(n.Line, key.Name, "is a key, not a section", "write "+s.kind.takes)
	case s.isList() && n.Kind == yaml.SequenceNode:
		s.clear()
		for _, item := range n.Content {
			r.scalar(key, s, item)
		}
	case s.isList():
		r.refuse(n.Line, key.Name, "is not a list", "write it in brackets, with commas: "+s.kind.takes)
	default:
		r.scalar(key, s, n)
	}
}

func (r *reader) scalar(key Key, s setting, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Anchor == "" && slices.Contains(s.kind.tags, n.ShortTag()) {
		r.fail(n.Line, key.named(s.set(n.Value)))
		return
	}
	verb := "is "
	if s.isList() {
		verb = "holds "
	}
	r.refuse(n.Line, key.Name, verb+typeName(n), "write "+s.kind.takes)
}

func typeName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return "an anchor"
	}
	switch n.ShortTag() {
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!null":
		return "nothing"
	case "!!str":
		return "text"
	default:
		return "a tag or a date"
	}
}

// malformed reports what the YAML parser could not read, and names the key that
// it was in. The parser's own words are quoted, except where they would quote
// the file.
func (r *reader) malformed(text []byte, err error) {
	broken, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", r.file, err))
		return
	}
	if broken.Stage == yaml.ComposerStage {
		r.refuse(broken.Mark.Line, "the file", "refers to an anchor that it does not have", "write the value itself, in quotes where it begins with *")
		return
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	line := min(max(broken.Mark.Line, 1), len(lines))
	rule := "is not YAML: " + broken.Message
	if begun := broken.ContextMark.Line; begun > 0 && begun < line {
		rule += fmt.Sprintf(" %s that begins on line %d", broken.ContextMsg, begun)
	}
	r.refuse(line, keyNear(lines[:line]), rule, "look at its colon, indentation, quotes and brackets")
}

var (
	plainKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$|^<<$`)
	keyLine  = regexp.MustCompile(`^(\s*)([A-Za-z0-9_-]{1,64})\s*:`)
)

// keyNear names the last key that was begun in lines.
func keyNear(lines []string) string {
	section, name := "", ""
	for _, l := range lines {
		m := keyLine.FindStringSubmatch(l)
		switch {
		case m == nil:
		case m[1] == "":
			section, name = m[2], m[2]
		case section != "":
			name = section + "." + m[2]
		}
	}
	return orTheFile(name)
}

func orTheFile(name string) string {
	if name == "" {
		return "the file"
	}
	return name
}

// keysOf lists what may stand in a section, or at the top.
func (r *reader) keysOf(section string) string {
	var names []string
	for _, k := range Keys() {
		top, leaf, nested := strings.Cut(k.Name, ".")
		switch {
		case section == "" && !slices.Contains(names, top):
			names = append(names, top)
		case nested && top == section:
			names = append(names, leaf)
		}
	}
	return "the keys here are " + strings.Join(names, ", ")
}

// names is every key and section, for suggestions.
func (r *reader) names() []string {
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	for s := range r.sections {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}
