package lifecycle

import (
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
)

// serverState holds the counters and events of a Server.
type serverState struct {
	name     atomic.Pointer[string]
	logger   atomic.Pointer[slog.Logger]
	events   *event.Log
	certs    atomic.Pointer[[]tls.Certificate] // of TLSConfig; nil before Start
	expiring expiry.Watch
	streams  atomic.Int64
	requests atomic.Uint64
	refused  atomic.Uint64
}

func (s *serverState) init() {
	s.events = event.NewLog("lifecycle", func() string {
		if name := s.name.Load(); name != nil {
			return *name
		}
		return "http server"
	}, func() *slog.Logger {
		if l := s.logger.Load(); l != nil {
			return l
		}
		return slog.Default()
	}, func(err error) (cause, advice string) {
		f := health.Classify(err)
		return string(f.Kind), f.Advice
	})
}

// SetName gives the server the name it has in events. The Registry calls it.
func (s *Server) SetName(name string) { s.state.name.Store(&name) }

// SetLogger gives the server the logger of its events. Default: slog.Default(). The Registry calls it.
func (s *Server) SetLogger(l *slog.Logger) { s.state.logger.Store(l) }

// Subscribe calls fn for every event of the server from now on, until cancel is called. Events are a
// renewal of the certificate of [WithCertFiles], a refused renewal, and a certificate that expires
// within 14 days. fn runs on the goroutines of Start and of handshakes, may be called
// concurrently, and must not block. A panic in it is logged.
func (s *Server) Subscribe(fn func(poolkeeper.Event)) (cancel func()) {
	return s.state.events.Subscribe(fn)
}

// Stats returns one moment of the server. It does not block.
func (s *Server) Stats() poolkeeper.ServerStats {
	open, hijacked := s.conns.len()
	return poolkeeper.ServerStats{
		InFlight: s.handlers.InFlight(), Streams: int(s.state.streams.Load()),
		Connections: open, Hijacked: hijacked,
		Requests: s.state.requests.Load(), Refused: s.state.refused.Load(),
	}
}

// Expiries lists the expiries of the server's certificates. It knows the certificate of
// [WithCertFiles] that is in use, and TLSConfig.Certificates, but not the result of
// TLSConfig.GetCertificate. It is empty before Start. It does no I/O.
func (s *Server) Expiries() []poolkeeper.Expiry {
	if s.files != nil {
		pair := s.files.current.Load()
		if pair == nil {
			return nil // not started
		}
		return expiry.OfPairs(poolkeeper.ExpiryServerCertificate, *pair)
	}
	certs := s.state.certs.Load()
	if certs == nil {
		return nil
	}
	return expiry.OfPairs(poolkeeper.ExpiryServerCertificate, *certs...)
}

// warnOfExpiry reports a certificate that expires soon. Start and requests over TLS call it; it
// compares the dates once an hour.
func (s *Server) warnOfExpiry() {
	s.state.expiring.DueOf(s.Expiries, func(e poolkeeper.Expiry, now time.Time) {
		s.state.events.Emit(event.OfExpiry(e, now))
	})
}

// certChanged reports what has come of a renewal.
func (s *Server) certChanged(pair *tls.Certificate, err error) {
	if err != nil {
		s.state.events.Emit(event.OfServerRenewalRefused(err))
		return
	}
	var attrs []slog.Attr
	for _, e := range expiry.OfPairs(poolkeeper.ExpiryServerCertificate, *pair) {
		attrs = append(attrs, slog.String("subject", e.Subject), slog.Time("not_after", e.NotAfter))
	}
	s.state.events.Emit(event.OfServerRenewal(attrs...))
	s.state.expiring.Renewed()
}
