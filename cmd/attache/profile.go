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

// profiled runs the command line, which is os.Args.
func (a *app) profiled(run func() int) int {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		return run()
	}
	f, err := os.Create(filepath.Join(profileDir, fmt.Sprintf("%d.pprof", os.Getpid())))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		a.complain(err)
		return exitFailure
	}
	code := run()
	pprof.StopCPUProfile()
	if err := f.Close(); err != nil {
		a.complain(err)
		return exitFailure
	}
	return code
}
