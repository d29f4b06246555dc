package main

import (
	"os"

	"golang.org/x/term"
)

// colours paints words for people. The zero value paints nothing.
type colours struct{ on bool }

// colours are used on a terminal, unless NO_COLOR (no-color.org) or TERM=dumb
// says that they are not wanted.
func (a *app) colours() colours {
	f, ok := a.out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return colours{}
	}
	no, _ := a.lookup("NO_COLOR")
	kind, _ := a.lookup("TERM")
	return colours{on: no == "" && kind != "dumb"}
}

func (c colours) bold(s string) string   { return c.paint("1", s) }
func (c colours) faint(s string) string  { return c.paint("2", s) }
func (c colours) red(s string) string    { return c.paint("31", s) }
func (c colours) green(s string) string  { return c.paint("32", s) }
func (c colours) yellow(s string) string { return c.paint("33", s) }

func (c colours) paint(code, s string) string {
	if !c.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
