//go:build profile

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profileDir is where a server built with the tag profile writes, when it ends, what
// it has spent its time on; set by the linker. See the Makefile.
var profileDir string

func init() {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		return
	}
	f, err := os.Create(filepath.Join(profileDir, fmt.Sprintf("%d.pprof", os.Getpid())))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "attache: no profile:", err)
		os.Exit(exitFailure)
	}
	atExit = func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}
}
