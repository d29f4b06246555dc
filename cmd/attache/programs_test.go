package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// programs are what scripts can call beside attache.
func programs() map[string]func() {
	return map[string]func(){
		"attache": main, "fetch": fetch, "hold": hold,
		"browse": browse, "xdg-open": browse, "open": browse, // the last two as Linux and macOS call it
	}
}

// fetch is a client that knows nothing but its environment: fetch URL prints the
// status, what attache says of it, and the body.
func fetch() {
	resp, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(resp.Status, resp.Header.Get("Attache-Error"), strings.TrimSpace(string(body)))
}

// hold is a command that takes its time: hold BEGAN UNTIL creates the file BEGAN
// and ends once UNTIL exists. A signal that it gets ends it with exit code 7.
func hold() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, os.Interrupt)
	if err := os.WriteFile(os.Args[1], []byte(os.Getenv("HTTPS_PROXY")), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tick, over := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	for {
		select {
		case s := <-signals:
			fmt.Println("got", s)
			os.Exit(7)
		case <-over:
			fmt.Fprintln(os.Stderr, "waited for a minute")
			os.Exit(1)
		case <-tick.C:
		}
		if _, err := os.Stat(os.Args[2]); err == nil {
			return
		}
	}
}

// commands are what scripts can do beside running programs.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"ports":      freePorts,
		"awaittext":  awaitText,
		"gone":       gone,
		"count":      count,
		"killpid":    killPID,
		"awaitstate": awaitState,
	}
}

// freePorts sets variables to ports that nobody listens on: ports NAME...
func freePorts(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer ln.Close()
		_, port, err := net.SplitHostPort(ln.Addr().String())
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// poll waits until something is so.
func poll(ts *testscript.TestScript, what string, is func() bool) {
	tick, over := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-over:
			ts.Fatalf("for 20 seconds not so: %s", what)
		}
	}
}

// awaitText waits until a file has a match: awaittext FILE REGEXP. A group in it
// is what the variable TEXT is set to.
func awaitText(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[1])
	poll(ts, args[0]+" matches "+args[1], func() bool {
		text, _ := os.ReadFile(ts.MkAbs(args[0]))
		m := pattern.FindSubmatch(text)
		if len(m) > 1 {
			ts.Setenv("TEXT", string(m[1]))
		}
		return m != nil
	})
}

// gone waits until a file is gone: gone FILE.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[0]+" is gone", func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return os.IsNotExist(err)
	})
}

// awaitState waits until a connection is in a state: awaitstate CONNECTION STATE.
func awaitState(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[0]+" is "+args[1], func() bool {
		ts.Check(ts.Exec("attache", "connection", "show", args[0]))
		return regexp.MustCompile("(?m)^State +" + args[1] + "$").MatchString(ts.ReadFile("stdout"))
	})
}

// count checks how many files match, or how many lines of a file contain a text:
// count N PATTERN, count N FILE TEXT.
func count(ts *testscript.TestScript, _ bool, args []string) {
	n := 0
	if len(args) == 3 {
		n = strings.Count(ts.ReadFile(args[1]), args[2])
	} else {
		files, err := filepath.Glob(ts.MkAbs(args[1]))
		ts.Check(err)
		n = len(files)
	}
	if fmt.Sprint(n) != args[0] {
		ts.Fatalf("%d, not %s", n, args[0])
	}
}

// killPID ends a process that the script knows by its number, at once.
func killPID(ts *testscript.TestScript, _ bool, args []string) {
	var pid int
	_, err := fmt.Sscan(args[0], &pid)
	ts.Check(err)
	p, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(p.Kill())
}
