package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// processTime is the processor time of a process and its threads, those that have
// ended included, to the nanosecond: that of its clock (clock_getcpuclockid(3)), since
// /proc has it in steps of 10 ms.
func processTime(pid int) (time.Duration, error) {
	const all, scheduled = 0, 2 // of the process, and not of one thread; user and system time
	var t unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|all|scheduled), &t)
	return time.Duration(t.Nano()), err
}
