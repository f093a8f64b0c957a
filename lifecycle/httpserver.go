package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/inflight"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/socket"
	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

// Server is an [http.Server] as a component. Make it with [HTTPServer].
//
//	Start   returns when it listens: a port that is taken, or a certificate that cannot be read, is an error of Start
//	Drain   ends the contexts of Stream handlers, refuses new connections, waits for requests and hijacked connections
//	Stop    goes on with that, and cuts what is left when its context ends
//	Abort   cuts all connections
//
// During DrainDelay each response ends its connection, so that clients go elsewhere. Without a delay, a
// request that a client sends on a connection that it has kept may meet the end of that connection.
//
// It dies (see [WithDeathPolicy]) when its listener fails. It cannot be started again: an
// http.Server cannot.
type Server struct {
	http   *http.Server
	files  *certFiles // nil if not given
	listen func(context.Context) (net.Listener, error)
	state  serverState

	conns    connSet
	closing  atomic.Bool // a shutdown has begun
	handlers *inflight.Gate
	draining context.Context //nolint:containedctx // ends when Drain begins
	drain    context.CancelFunc
	died     chan error    // 1 buffered
	served   chan struct{} // closed when the goroutine that serves has ended

	mu      sync.Mutex // guards the following
	addr    net.Addr
	started bool
	drained bool // a Drain has finished: nothing is under way
	stopped bool // Stop or Abort was called
	aborted bool
	left    string // what was under way when it was aborted
}

// ServerOption changes how a [Server] listens.
type ServerOption func(*Server)

// WithCertFiles makes the server speak TLS with a certificate and a key from PEM files, as
// http.Server.ServeTLS does. Handshakes look at the files again, at most every 10 s, and use the
// pair that was renewed; a pair that cannot be read or does not fit keeps the old one in use and is
// logged. Without WithCertFiles, the server speaks TLS if its TLSConfig has a certificate or a
// function that gets one.
func WithCertFiles(cert, key string) ServerOption {
	return func(s *Server) { s.files = &certFiles{cert: cert, key: key, changed: s.certChanged} }
}

// WithListen makes Start call listen for its listener, instead of listening on TCP at the server's
// Addr: for Unix sockets, systemd's sockets, or a socket that was opened before privileges were
// dropped. The server closes it.
func WithListen(listen func(context.Context) (net.Listener, error)) ServerOption {
	return func(s *Server) { s.listen = listen }
}

// DefaultReadHeaderTimeout is how long a client may take for the header of a request, and for the TLS
// handshake, if the http.Server does not say so: see [HTTPServer].
const DefaultReadHeaderTimeout = 10 * time.Second

// HTTPServer makes a component of srv, HTTP or HTTPS. Start wraps its Handler, BaseContext, ConnContext
// and ConnState. With [WithCertFiles] its TLSConfig is a copy. If ReadHeaderTimeout and ReadTimeout are
// both 0, Start sets ReadHeaderTimeout to [DefaultReadHeaderTimeout]: without any, a client that sends
// half a header holds its connection for ever. A negative ReadHeaderTimeout means none, as in net/http.
// Everything else stays as it is. nil gives a component that Add refuses. Its Addr may end in ":0": see
// [Server.Addr].
//
// A connection that has been opened and not used for a request yet is waited for up to 5 s at
// drain: http.Server cannot know that no request is on its way.
func HTTPServer(srv *http.Server, opts ...ServerOption) *Server {
	if srv == nil {
		return nil
	}
	s := &Server{
		http:     srv,
		handlers: inflight.New(),
		died:     make(chan error, 1),
		served:   make(chan struct{}),
	}
	//nolint:forbidigo // it carries nothing and ends with Drain
	s.draining, s.drain = context.WithCancel(context.Background())
	s.listen = s.listenTCP
	s.state.init()
	for _, o := range opts {
		if o != nil {
			o(s)
		}
	}
	return s
}

func (s *Server) inert() {}

// Addr returns the address it listens on, nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Start listens and serves. It returns when it listens.
func (s *Server) Start(ctx context.Context) error {
	if err := s.enterStart(); err != nil {
		return err
	}
	secure, err := s.checkTLS()
	if err != nil {
		return err
	}
	l, err := s.listen(ctx)
	if err != nil {
		if _, says := errors.AsType[*net.OpError](err); says {
			return err // "listen tcp :8080: bind: address already in use"
		}
		return fmt.Errorf("listen: %w", err)
	}
	s.wrap(secure)
	if secure {
		s.warnOfExpiry()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped { // Abort came in between
		_ = l.Close()
		return http.ErrServerClosed
	}
	s.addr, s.started = l.Addr(), true
	go s.serve(&trackedListener{l, &s.conns}, secure)
	return nil
}

var errServerUsed = errors.New("lifecycle: an http.Server cannot be started twice, nor after it was stopped")

func (s *Server) enterStart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopped {
		return errServerUsed
	}
	return nil
}

// checkTLS says whether to speak TLS, and finds what ServeTLS would only find when Start has
// returned.
func (s *Server) checkTLS() (bool, error) {
	if s.files != nil {
		return true, s.files.load()
	}
	c := s.http.TLSConfig
	if c == nil {
		return false, nil
	}
	if len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return false, errors.New("TLSConfig has no certificate, and WithCertFiles was not given")
	}
	s.state.certs.Store(&c.Certificates)
	return true, nil
}

func (s *Server) listenTCP(ctx context.Context) (net.Listener, error) {
	addr := s.http.Addr
	if addr == "" {
		addr = ":http"
		if s.http.TLSConfig != nil || s.files != nil {
			addr = ":https"
		}
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

// wrap puts our handler, contexts and ConnState around the user's.
func (s *Server) wrap(secure bool) {
	base, connState := s.http.BaseContext, s.http.ConnState
	s.http.Handler = s.handler(s.http.Handler)
	s.http.ConnState = func(c net.Conn, to http.ConnState) {
		switch {
		case to == http.StateHijacked:
			s.conns.noteHijacked(c)
		case to == http.StateActive && secure: // after the handshake, which may have renewed the certificate
			s.warnOfExpiry()
		}
		if connState != nil {
			connState(c, to)
		}
	}
	if s.files != nil {
		s.http.TLSConfig = s.files.config(s.http.TLSConfig)
	}
	if s.http.ReadHeaderTimeout == 0 && s.http.ReadTimeout == 0 {
		s.http.ReadHeaderTimeout = DefaultReadHeaderTimeout
	}
	s.http.BaseContext = func(l net.Listener) context.Context {
		//nolint:forbidigo // what http.Server itself does
		ctx := context.Background()
		if base != nil {
			ctx = base(l)
		}
		return context.WithValue(ctx, serverKey{}, s)
	}
	connContext := s.http.ConnContext
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		ctx = socket.WithConn(ctx, c) // for package streams
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		return ctx
	}
}

// handler counts requests, and passes them on to the user's handler.
func (s *Server) handler(next http.Handler) http.Handler {
	if next == nil {
		next = http.DefaultServeMux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.handlers.Enter() {
			s.refuse(w)
			return
		}
		defer s.handlers.Leave()
		s.state.requests.Add(1)
		if s.closing.Load() {
			w.Header().Set("Connection", "close") // on HTTP/2, GOAWAY
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) refuse(w http.ResponseWriter) {
	s.state.refused.Add(1)
	w.Header().Set("Connection", "close")
	http.Error(w, "shutting down", http.StatusServiceUnavailable)
}

// serve is the goroutine that accepts connections. Owner: the server; closing the listener stops
// it; Stop waits for it.
//
// The service's own code runs on it: the listener of WithListen, BaseContext, ConnContext and
// ConnState.
func (s *Server) serve(l net.Listener, secure bool) {
	err := errGoexit // stays if it neither returns nor panics
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: stacks.Print(stacks.Callers(1))}
		}
		if !errors.Is(err, http.ErrServerClosed) {
			_ = guard.Call(func() { _ = l.Close() })
			s.died <- err
		}
		close(s.served)
	}()
	if secure {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
}

// Done gets the error of a listener that failed.
func (s *Server) Done() <-chan error { return s.died }

// shutdownBegins has each response close its connection from now on. http.Server.Shutdown would close
// an idle connection at the moment at which its client sends the next request.
func (s *Server) shutdownBegins() { s.closing.Store(true) }

// Drain refuses new connections and waits for what is under way.
func (s *Server) Drain(ctx context.Context) error {
	s.drain()
	s.mu.Lock()
	started, aborted := s.started, s.aborted
	s.mu.Unlock()
	if !started || aborted {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err == nil { // what is open now is hijacked: Shutdown has closed all others
		err = s.conns.wait(ctx)
	}
	if err == nil {
		s.handlers.Close()
		select {
		case <-s.handlers.Empty():
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.aborted: // meanwhile, which may be why there is nothing left
		return fmt.Errorf("cut off with %s", s.left)
	case err != nil:
		return fmt.Errorf("%s: %w", s.underWay(), err)
	}
	s.drained = true
	return nil
}

// underWay says what is not finished.
func (s *Server) underWay() string {
	open, _ := s.conns.len()
	return fmt.Sprintf("requests in flight: %d, connections open: %d", s.handlers.InFlight(), open)
}

// Stop drains, as far as that was not done, and cuts what is left when ctx ends. Its error wraps
// ErrStopTimeout if handlers are still running after that.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	drained, started := s.drained, s.started
	s.stopped = true
	s.mu.Unlock()
	var err error
	if !drained {
		err = s.Drain(ctx)
	}
	if !started {
		return err
	}
	err = errors.Join(err, s.Abort())
	<-s.served // the listener is closed
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-s.handlers.Empty():
	case <-timer.C:
		err = errors.Join(err, fmt.Errorf("%w: requests still running after they were cut off: %d",
			ErrStopTimeout, s.handlers.InFlight()))
	}
	return err
}

// lastWords is how long a handler has to return after its connection was cut.
const lastWords = 25 * time.Millisecond

// Abort closes the listener and all connections, hijacked ones included. Handlers see their
// contexts end; it does not wait for them.
func (s *Server) Abort() error {
	s.drain()
	s.mu.Lock()
	s.stopped = true
	if !s.aborted {
		s.aborted, s.left = true, s.underWay()
	}
	s.mu.Unlock()
	s.handlers.Close()
	err := s.http.Close()
	s.conns.closeAll()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// String returns the address it listens on.
func (s *Server) String() string {
	if addr := s.Addr(); addr != nil {
		return "lifecycle.Server{" + addr.String() + "}"
	}
	return "lifecycle.Server{not started}"
}

// Format prints what String returns, for every verb.
func (s *Server) Format(f fmt.State, _ rune) { printing.Format(f, s) }

// LogValue returns what String returns.
func (s *Server) LogValue() slog.Value { return printing.LogValue(s) }
