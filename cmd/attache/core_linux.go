package main

import "golang.org/x/sys/unix"

// disableCoreDumps keeps the credentials in memory out of files that a crash
// would leave behind. The limit alone would not stop a core_pattern that is a
// pipe; being undumpable does, and keeps the user's other programs from reading
// this one's memory.
func disableCoreDumps() {
	// Neither can fail: both only give something up.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
