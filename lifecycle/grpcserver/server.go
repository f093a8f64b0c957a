package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
)

// Server runs a *grpc.Server from Start to Stop. It satisfies lifecycle.Component,
// lifecycle.Aborter and lifecycle.DoneNotifier. All methods are safe for concurrent use; one Server
// serves once.
type Server struct {
	grpc *grpc.Server
	addr string
	died chan error

	mu       sync.Mutex // guards the following
	listener net.Listener
	stopping bool
	served   chan struct{} // closed when Serve has returned; nil before Start
	graceful chan struct{} // closed when GracefulStop has returned; nil before Stop
}

// New returns a component that serves srv on the TCP address addr ("host:port", port 0 for a free
// one: see Addr). It neither listens nor dials. Services must be registered with srv before Start.
// From then on the component owns srv: do not call its Stop or GracefulStop.
func New(srv *grpc.Server, addr string) *Server {
	return &Server{grpc: srv, addr: addr, died: make(chan error, 1)}
}

// Start listens and begins to serve. When it returns nil, connections are accepted. A taken port, a
// second Start and a Start after Stop are errors. ctx bounds only the resolution of the address.
func (s *Server) Start(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.addr)
	if err != nil {
		return fmt.Errorf("grpcserver: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return errors.Join(fmt.Errorf("grpcserver: start of %s after stop", s.addr), l.Close())
	case s.served != nil:
		return errors.Join(fmt.Errorf("grpcserver: second start of %s", s.addr), l.Close())
	}
	s.listener, s.served = l, make(chan struct{})
	// Owner: the Server. Ends when Stop or Abort stops srv, or the listener fails; Stop and Abort
	// wait for it.
	go s.serve(l, s.served)
	return nil
}

func (s *Server) serve(l net.Listener, served chan<- struct{}) {
	err := s.grpc.Serve(l)
	s.mu.Lock()
	stopping := s.stopping
	s.mu.Unlock()
	if !stopping {
		s.died <- fmt.Errorf("grpcserver: serving %s ended: %w", l.Addr(), err)
	}
	close(served)
}

// Addr returns the address served, or nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Done returns a channel that receives one error if serving ends without Stop or Abort.
func (s *Server) Done() <-chan error { return s.died }

// Stop refuses new calls, waits until those in flight are done and returns nil. If ctx ends first
// it cuts all connections, which cancels the calls' contexts, and returns an error that wraps
// context.Cause(ctx). It may be called without Start, more than once and concurrently.
func (s *Server) Stop(ctx context.Context) error {
	graceful, served := s.beginStop()
	if err := wait(ctx, graceful, served); err != nil {
		s.cut()
		return fmt.Errorf("grpcserver: calls still in flight on %s were cut: %w", s.addr, err)
	}
	return nil
}

// Abort cuts all connections without waiting for calls in flight. It may be called without Start,
// and more than once.
func (s *Server) Abort() error {
	s.beginStop()
	s.cut()
	return nil
}

// beginStop starts the graceful stop, once, and returns what to wait for.
func (s *Server) beginStop() (graceful, served <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if s.graceful == nil {
		done := make(chan struct{})
		s.graceful = done
		// Owner: the Server. Ends when the last call is done, or when cut stops srv; Stop waits for
		// it.
		go func() {
			defer close(done)
			s.grpc.GracefulStop()
		}()
	}
	return s.graceful, s.served
}

// cut does not wait: with grpc.WaitForHandlers, Stop waits for handlers, and one that ignores its
// context would hold the shutdown for ever.
func (s *Server) cut() {
	// Owner: the Server. Ends when the handlers do; the server cannot end a handler that ignores
	// its context.
	go s.grpc.Stop()
}

func wait(ctx context.Context, channels ...<-chan struct{}) error {
	for _, c := range channels {
		if c == nil {
			continue
		}
		select {
		case <-c:
			continue
		default:
		}
		select {
		case <-c:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
