package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"attache/oauth"
)

const (
	// drainTimeout is for the API's requests to end. The proxy's have their own.
	drainTimeout = 5 * time.Second
	// endTimeout is for everything to end, once it is told to. Refreshes take longest.
	endTimeout = oauth.LongestEnd + drainTimeout

	httpHeadTimeout = 10 * time.Second
	httpReadTimeout = time.Minute
	// httpWriteTimeout counts from the head: it is a minute for the body to come,
	// and one for the answer to be made and read. Event streams set their own.
	httpWriteTimeout = httpReadTimeout + time.Minute
	httpIdleTimeout  = 2 * time.Minute
	httpHeadBytes    = 64 << 10
	// httpConnections is how many clients each port but the proxy's serves at once,
	// those without a token included; others wait. The socket is its owner's alone.
	httpConnections = 256
)

var errSlowEnd = errors.New("what was under way did not end in time and was cut off")

// run serves until ctx ends, or nothing has happened for the configured time;
// then it ends what is under way, politely, and returns. The log of events ends
// last, after all that writes to it.
func (s *server) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	logs, stopLogs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLogs()

	var writers, servers errgroup.Group
	if s.audit != nil {
		writers.Go(func() error { return s.audit.Run(logs) })
	}
	serve := func(run func(context.Context) error) {
		servers.Go(func() error {
			defer stop() // one that fails ends the others
			return run(ctx)
		})
	}
	serve(func(ctx context.Context) error { return s.proxy.Serve(ctx, s.listeners.proxy) })
	serve(s.keeper.Run)
	serve(s.runErrands)
	serve(s.serving(s.socket, s.socketHandler()))
	if s.admin != nil {
		serve(s.serving(netutil.LimitListener(s.admin, httpConnections), s.idle.watching(s.api)))
	}
	if s.listeners.metrics != nil {
		serve(s.serving(netutil.LimitListener(s.listeners.metrics, httpConnections), s.metricsHandler()))
	}
	if s.cfg.IdleExit > 0 {
		serve(s.endWhenIdle)
	}
	s.ready.Store(true)

	<-ctx.Done()
	s.ready.Store(false)
	close(s.draining)
	return within(endTimeout, func() error {
		err := servers.Wait()
		stopLogs()
		return errors.Join(err, writers.Wait())
	})
}

// within is the error of f, or errSlowEnd if that takes too long. Then the
// program is about to end, and f with it.
func within(d time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	select {
	case err := <-done:
		return err
	case <-timeout.C:
		return errSlowEnd
	}
}

// errand is what nobody waits for. It ends with its context.
type errand = func(context.Context)

// maxErrands bounds those that wait for the ones before.
const maxErrands = 64

// later runs an errand when those before are done.
func (s *server) later(e errand) {
	select {
	case s.errands <- e:
	default:
		s.log.Warn("too much is waiting to be done in the background: this is not done", "waiting", maxErrands)
	}
}

// runErrands runs errands until ctx ends. Those that wait then are run all the
// same, for they may have something to say about not being done.
func (s *server) runErrands(ctx context.Context) error {
	for {
		select {
		case e := <-s.errands:
			e(ctx)
			continue
		default:
		}
		select {
		case e := <-s.errands:
			e(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// serving serves HTTP on a listener until its context ends.
func (s *server) serving(ln net.Listener, h http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: httpHeadTimeout,
			ReadTimeout:       httpReadTimeout,
			WriteTimeout:      httpWriteTimeout,
			IdleTimeout:       httpIdleTimeout,
			MaxHeaderBytes:    httpHeadBytes,

			DisableGeneralOptionsHandler: true,

			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		ended := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(ended)
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()
			if srv.Shutdown(drain) != nil {
				_ = srv.Close()
			}
		})
		err := srv.Serve(ln)
		if !stop() {
			<-ended
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	}
}

// socketHandler is the API without a token, leases, the end of a background
// server, and its health, which does not keep it from being idle.
func (s *server) socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.api.Trusted())
	mux.HandleFunc("POST "+leasePath, s.serveLease)
	outer := http.NewServeMux()
	outer.Handle("/", s.idle.watching(mux))
	outer.HandleFunc("POST "+endPath, s.serveEnd)
	outer.HandleFunc("POST "+settingsPath, s.serveSettings)
	outer.HandleFunc("GET "+healthPath, serveHealth)
	return outer
}

// metricsHandler answers those who watch the server. Being watched does not keep
// it from being idle.
func (s *server) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.api.UnderItsNames(s.metrics.Handler())) // they name connections
	mux.HandleFunc("GET "+healthPath, serveHealth)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "attache is not ready: it is starting or ending", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "attache is ready\n")
	})
	return mux
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "attache is alive\n")
}

// endWhenIdle returns when there has been no tunnel, no request and no lease for
// the configured time, and at once where a server makes room for another.
func (s *server) endWhenIdle(ctx context.Context) error {
	tick := time.NewTicker(min(max(s.cfg.IdleExit/10, time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.idle.ended:
			s.log.Info("making room for another server: ending")
			return nil
		case <-tick.C:
		}
		if s.proxy.Busy() {
			s.idle.touch(time.Now())
		}
		if s.idle.over(s.cfg.IdleExit) {
			s.log.Info("nobody came for so long: ending", slog.Duration("idle_exit", s.cfg.IdleExit))
			return nil
		}
	}
}
