package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what a process and its descendants have used since they started.
type usage struct {
	cpu time.Duration // user and system time
	rss int64         // bytes that are resident now
}

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on
// every Linux.
const clockTick = 10 * time.Millisecond

// usageOf is the usage of a process tree: its shape and memory are from /proc, and so
// is the time of those that have ended; that of the others is their own clocks'.
func usageOf(pid int) (usage, error) {
	if pid == 0 {
		return usage{}, nil
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return usage{}, err
	}
	own := map[int]usage{}
	children := map[int][]int{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := parseStat(string(text))
		if err != nil {
			return usage{}, fmt.Errorf("%s: %w", name, err)
		}
		own[s.pid] = s.usage
		children[s.parent] = append(children[s.parent], s.pid)
	}
	if _, ok := own[pid]; !ok {
		return usage{}, fmt.Errorf("process %d is gone", pid)
	}
	var sum usage
	for tree := []int{pid}; len(tree) > 0; {
		next := tree[0]
		tree = append(tree[1:], children[next]...)
		spent, err := processTime(next)
		if err != nil && next == pid { // another may have ended meanwhile
			return usage{}, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum.cpu += spent + own[next].cpu
		sum.rss += own[next].rss
	}
	return sum, nil
}

// stat is what matters here of /proc/PID/stat; its time is that of children that have
// ended and were waited for.
type stat struct {
	pid, parent int
	usage
}

// parseStat reads /proc/PID/stat (proc(5)).
func parseStat(text string) (stat, error) {
	name := strings.LastIndexByte(text, ')') // it may hold spaces and parentheses
	open := strings.IndexByte(text, '(')
	if open < 0 || name < open {
		return stat{}, errors.New("no command in it")
	}
	rest := strings.Fields(text[name+1:])
	const parent, firstTime, lastTime, rss = 1, 13, 14, 21 // proc(5) counts from 3 here
	if len(rest) <= rss {
		return stat{}, errors.New("it is too short")
	}
	var failed error
	number := func(s string) int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		failed = errors.Join(failed, err)
		return n
	}
	s := stat{pid: int(number(text[:open])), parent: int(number(rest[parent]))}
	for _, ticks := range rest[firstTime : lastTime+1] {
		s.cpu += time.Duration(number(ticks)) * clockTick
	}
	s.rss = number(rest[rss]) * int64(os.Getpagesize())
	return s, failed
}
