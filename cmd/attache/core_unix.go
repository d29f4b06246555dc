//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// disableCoreDumps keeps the credentials in memory out of files that a crash
// would leave behind.
func disableCoreDumps() {
	// A limit can always be lowered, so this cannot fail.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
