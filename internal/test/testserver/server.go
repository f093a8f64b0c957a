package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// startLimit bounds how long a server may take to answer. It is generous: a loaded machine with two
// cores is slow.
const startLimit = 60 * time.Second

// kind is what differs between the servers.
type kind struct {
	name    string                                       // as in messages
	install string                                       // the Debian package
	binary  func() (string, error)                       // path of the server's binary
	prepare func(s *Server) error                        // fills the data directory, once
	args    func(s *Server) []string                     // command line of the server
	answers func(ctx context.Context, addr string) error // nil once the server takes queries
	url     func(addr string) string                     // for clients
	stop    syscall.Signal                               // asks for an orderly shutdown
	asUser  func() (*credential, error)                  // nil: our own user
}

// Server is one running server. Its methods are safe for concurrent use, and fail the test that
// made it if they cannot do what they say.
type Server struct {
	kind    kind
	addr    string
	release func() // gives addr back; nil without one
	dir     string
	extra   []string
	cred    *credential

	mu   sync.Mutex // guards the following; held while the process starts or stops
	cmd  *exec.Cmd
	done chan struct{} // closed when the process of cmd has been reaped
	out  *bytes.Buffer // what the server printed; read only after done is closed
}

// Addr returns the server's "127.0.0.1:port". It stays the same over restarts.
func (s *Server) Addr() string { return s.addr }

// Port returns the port of Addr.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.addr)
	return port
}

// Dir returns the server's private directory.
func (s *Server) Dir() string { return s.dir }

// URL returns an address a client can open: redis://, postgres:// or mysql://.
func (s *Server) URL() string { return s.kind.url(s.addr) }

// Stop asks the server to shut down in order and waits until it is gone.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	s.end(tb, s.kind.stop)
}

// Kill ends the server and its children at once, as kill -9 does, and waits until they are gone.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.end(tb, syscall.SIGKILL)
}

// Freeze stops the server and its children from running: connections stay open and nothing answers
// (SIGSTOP).
func (s *Server) Freeze(tb testing.TB) {
	tb.Helper()
	s.signalAll(tb, sigStop)
}

// Thaw ends a Freeze.
func (s *Server) Thaw(tb testing.TB) {
	tb.Helper()
	s.signalAll(tb, sigCont)
}

// Restart starts the server again on the same port and data, after stopping it if it still runs,
// and returns once it answers.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if s.Running() {
		s.Stop(tb)
	}
	if err := s.start(tb.Context()); err != nil {
		tb.Fatalf("testserver: restart: %v", err)
	}
}

// Running reports whether the server's process exists (a frozen one does).
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runningLocked()
}

func (s *Server) runningLocked() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// launch makes a server of its own directory and port and starts it.
func launch(ctx context.Context, k kind, extra []string) (*Server, error) {
	s := &Server{kind: k, extra: extra}
	var err error
	if k.asUser != nil {
		if s.cred, err = k.asUser(); err != nil {
			return nil, err
		}
	}
	if s.dir, err = os.MkdirTemp("", "poolkeeper-"+k.name+"-"); err != nil {
		return nil, err
	}
	if s.cred != nil {
		if err = os.Chown(s.dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return nil, errors.Join(err, s.destroy())
		}
	}
	if k.prepare != nil {
		if err = k.prepare(s); err != nil {
			return nil, errors.Join(fmt.Errorf("testserver: prepare %s: %w", k.name, err), s.destroy())
		}
	}
	if err = s.settle(ctx); err != nil {
		return nil, errors.Join(err, s.destroy())
	}
	return s, nil
}

// settle starts the server at an address that stays its own while it is down. A process that
// ignores the claim can still take the address before the server does, so settle tries up to five.
func (s *Server) settle(ctx context.Context) (err error) {
	for range 5 {
		if s.release != nil {
			s.release()
		}
		if s.addr, s.release, err = testkit.ClaimAddr(ctx); err != nil {
			return err
		}
		if err = s.start(ctx); err == nil {
			return nil
		}
	}
	return err
}

// start runs the process and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	binary, err := s.kind.binary()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(binary, s.kind.args(s)...) //nolint:noctx // the server outlives the call; end stops it
	cmd.Dir = s.dir
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attributes(s.cred)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("testserver: start %s: %w", s.kind.name, err)
	}
	done := make(chan struct{})
	// Owner: the Server. It ends with the process, which end and destroy kill and then wait for
	// through done.
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is of no interest: tests kill it
	}()
	s.cmd, s.done, s.out = cmd, done, out
	return s.awaitLocked(ctx)
}

// awaitLocked waits until the server answers, dies or takes too long; but for the first it leaves
// no process.
func (s *Server) awaitLocked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.kind.answers(ctx, s.addr)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("testserver: %s exited before it answered; it printed:\n%s", s.kind.name, s.out)
		case <-ctx.Done():
			kill(s.cmd)
			<-s.done
			return fmt.Errorf("testserver: %s did not answer (last: %w): %w; it printed:\n%s",
				s.kind.name, err, context.Cause(ctx), s.out)
		case <-tick.C:
		}
	}
}

// end signals the server and waits until it is gone, killing it if it does not go.
func (s *Server) end(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runningLocked() {
		return
	}
	if sig == syscall.SIGKILL {
		kill(s.cmd)
	} else if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		tb.Fatalf("testserver: signal %s: %v", s.kind.name, err)
	}
	t := time.NewTimer(startLimit)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
		kill(s.cmd)
		<-s.done
		tb.Errorf("testserver: %s ignored %v for %v and was killed; it printed:\n%s", s.kind.name, sig, startLimit, s.out)
	}
}

func (s *Server) signalAll(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.runningLocked() {
		tb.Fatalf("testserver: %s is not running", s.kind.name)
	}
	for _, pid := range family(s.cmd.Process.Pid) {
		_ = signalPid(pid, sig) // a child may end by itself meanwhile
	}
}

// destroy ends the process, if any, and removes the directory.
func (s *Server) destroy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runningLocked() {
		kill(s.cmd)
		<-s.done
	}
	if s.release != nil {
		s.release()
	}
	// Children of a killed postmaster take a moment to notice and may still write.
	var err error
	for range 50 {
		if err = os.RemoveAll(s.dir); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // bounded; there is nothing to wait on
	}
	return err
}

// find looks for a binary on the PATH and in the directories where Debian keeps servers. The last
// match of a glob wins: the newest version.
func find(name string, globs ...string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, g := range globs {
		if m, err := filepath.Glob(filepath.Join(g, name)); err == nil && len(m) > 0 {
			return m[len(m)-1], nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}
