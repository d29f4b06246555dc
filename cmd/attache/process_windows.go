package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// detached makes a child that no console of ours can reach.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS}
}

// forwarded are the signals that a run does not end of.
func forwarded() []os.Signal { return []os.Signal{os.Interrupt} }

// fromTerminal reports whether the command has got a signal already. The console
// sends it to every process on it.
func fromTerminal(os.Signal) bool { return true }

// exitCode is how a command's end is told.
func exitCode(p *os.ProcessState) int { return p.ExitCode() }
