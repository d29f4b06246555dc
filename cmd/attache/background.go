package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"attache/configs"
	"attache/store"
)

// A background server is what run starts where no server has the data directory
// open. All later runs share it. It is the same program with a hidden flag, apart
// from the terminal; it listens on one port that the kernel chooses, and ends
// when nobody has used it for a while. What it has to say to the run that starts
// it, ready or an error, goes through its standard output.

const (
	backgroundFlag = "background"
	backgroundIdle = 5 * time.Minute
	ready          = "ready"

	serverLogFile = "server.log"
	maxServerLog  = 1 << 20 // bytes; there may be an old one beside it

	exitInUse = 3 // of a background server: another one has the data directory
)

// serveBackground is a background server's main function.
func (a *app) serveBackground(ctx context.Context) error {
	signal.Ignore(syscall.SIGPIPE) // whoever started it may be gone
	told := a.out
	cfg, err := a.loadConfig()
	if err == nil {
		err = a.serveInBackgroundOf(ctx, cfg, told)
	}
	if err == nil {
		return nil
	}
	_, _ = io.WriteString(told, err.Error())
	code := exitFailure
	if errors.Is(err, store.ErrInUse) {
		code = exitInUse
	}
	return &exitError{code, err}
}

func (a *app) serveInBackgroundOf(ctx context.Context, cfg configs.Config, told io.Writer) error {
	log, err := openBoundedFile(filepath.Join(cfg.DataDir, serverLogFile), maxServerLog)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	a.err = log
	cfg = inBackground(cfg)
	return a.serve(ctx, cfg, func(_ context.Context, s *server) error {
		s.yields = true
		// It must not keep a directory in use that it was started in.
		if err := os.Chdir(cfg.DataDir); err != nil {
			return err
		}
		_, err := io.WriteString(told, ready+"\n")
		return err
	})
}

// inBackground is the configuration of a background server.
func inBackground(cfg configs.Config) configs.Config {
	cfg.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	cfg.Admin.Listen, cfg.Metrics.Listen = netip.AddrPort{}, netip.AddrPort{}
	cfg.Admin.PublicURL = "" // which leads to another server
	if cfg.IdleExit == 0 {
		cfg.IdleExit = backgroundIdle
	}
	if cfg.Log.Events == configs.EventsToStdout {
		cfg.Log.Events = configs.EventsToStderr
	}
	return cfg
}

// startBackground starts a background server and returns once it is ready. Where
// another is, or is just starting or ending, the error wraps store.ErrInUse.
func (a *app) startBackground(ctx context.Context, cfg configs.Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(cfg.DataDir, serverLogFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	// It outlives ctx.
	cmd := exec.Command(program, "serve", "--"+backgroundFlag, "--data-dir", cfg.DataDir)
	if a.configFile != "" {
		cmd.Args = append(cmd.Args, "--config", a.configFile)
	}
	cmd.Env = a.environ
	cmd.Stderr = log
	cmd.SysProcAttr = detached()
	says, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a server in the background: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = says.Close() })()
	first, err := bufio.NewReader(io.LimitReader(says, maxSecretFile)).ReadString('\n')
	if strings.TrimSpace(first) == ready {
		return errors.Join(says.Close(), cmd.Process.Release())
	}
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), cmd.Process.Kill(), cmd.Wait())
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	rest, _ := io.ReadAll(io.LimitReader(says, maxSecretFile))
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitInUse {
		return store.ErrInUse
	}
	why := strings.TrimSpace(first + string(rest))
	if why == "" {
		why = fmt.Sprintf("%v; see %s", err, filepath.Join(cfg.DataDir, serverLogFile))
	}
	return fmt.Errorf("start a server in the background: %s", why)
}

// boundedFile is a log that cannot fill the disk: when it is full it is set
// aside, in place of the one that was before.
type boundedFile struct {
	path string
	max  int64

	mu   sync.Mutex // guards what follows
	file *os.File
	size int64
}

func openBoundedFile(path string, max int64) (*boundedFile, error) {
	b := &boundedFile{path: path, max: max}
	return b, b.open()
}

func (b *boundedFile) open() error {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	b.file, b.size = f, info.Size()
	return nil
}

// Write implements [io.Writer].
func (b *boundedFile) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size > 0 && b.size+int64(len(p)) > b.max {
		if err := errors.Join(b.file.Close(), os.Rename(b.path, b.path+".old"), b.open()); err != nil {
			return 0, err
		}
	}
	n, err := b.file.Write(p)
	b.size += int64(n)
	return n, err
}

// Close implements [io.Closer].
func (b *boundedFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.file.Close()
}
