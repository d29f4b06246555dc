package main

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// environment is where a run was done, for whoever compares it with another.
type environment struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Attache    string `json:"attache"` // version
	Quick      bool   `json:"quick"`
}

func newEnvironment(attache string, quick bool) environment {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _ := exec.Command(attache, "version").Output()
	words := append(strings.Fields(string(version)), "", "") // Version V, and more
	return environment{
		Processor: processor(), Processors: runtime.NumCPU(),
		Kernel: "Linux " + strings.TrimSpace(string(kernel)), Go: runtime.Version(), Attache: words[1], Quick: quick,
	}
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
