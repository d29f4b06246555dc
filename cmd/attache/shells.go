package main

import (
	"fmt"
	"slices"
	"strings"
)

// shell is how one kind of shell sets variables. Comments begin with # in all of
// them.
type shell struct {
	set   func(name, value string) string
	unset func(name string) string
}

// shellNames are those that shellOf knows.
var shellNames = []string{"sh", "bash", "zsh", "fish", "powershell", "dotenv"}

// shellOf knows sh (and dash, ksh, bash, zsh, which read the same), fish, powershell, and the files
// that programs read variables from.
func shellOf(name string) (shell, bool) {
	switch name {
	case "sh", "bash", "zsh":
		return shell{
			set:   func(n, v string) string { return "export " + n + "=" + shellQuoted(v) },
			unset: func(n string) string { return "unset " + n },
		}, true
	case "fish":
		return shell{
			set: func(n, v string) string {
				return "set -gx " + n + " '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
			},
			unset: func(n string) string { return "set -e " + n },
		}, true
	case "powershell":
		return shell{
			// Typographic quotes end a string there as well.
			set: func(n, v string) string {
				return "$env:" + n + " = '" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(v) + "'"
			},
			unset: func(n string) string { return "Remove-Item Env:" + n + " -ErrorAction SilentlyContinue" },
		}, true
	case "dotenv":
		return shell{
			set:   func(n, v string) string { return n + "=" + dotenvQuoted(v) },
			unset: func(n string) string { return n + "=" },
		}, true
	}
	return shell{}, false
}

// plain are the characters that no shell looks at twice.
const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"

// shellQuoted is s as a POSIX shell reads it back.
func shellQuoted(s string) string {
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// dotenvQuoted is s as readers of dotenv files have it: as it is where they all
// agree, in double quotes where it needs them. Docker's --env-file knows none.
func dotenvQuoted(s string) string {
	if strings.Trim(s, plain) == "" {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}

// script sets the variables.
func (sh shell) script(vars []variable) string {
	var b strings.Builder
	for _, v := range vars {
		if v.unset {
			b.WriteString(sh.unset(v.name) + "\n")
		} else {
			b.WriteString(sh.set(v.name, v.value) + "\n")
		}
	}
	return b.String()
}

// applied is an environment, as in os.Environ, with the variables in it.
func applied(environ []string, vars []variable) []string {
	environ = slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.ContainsFunc(vars, func(v variable) bool { return v.name == name })
	})
	for _, v := range vars {
		if !v.unset {
			environ = append(environ, fmt.Sprintf("%s=%s", v.name, v.value))
		}
	}
	return environ
}
