package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/peer"
)

// GRPC has the answer of a gRPC server to the health protocol.
type GRPC struct {
	Service string `json:"service,omitempty"` // the service that was asked for; empty: the whole server
	// Health is the status, such as SERVING, or the code with which the call failed, such as
	// Unimplemented.
	Health string `json:"health"`
}

// askGRPC asks a gRPC server for its health.
func (s *Server) askGRPC(ctx context.Context, t Target, o Options) error {
	e, err := newEndpoint(s, t.url, "grpcs", o)
	if err != nil {
		return err
	}
	if err = e.reach(ctx, o.dialTimeout()); err != nil {
		return err
	}
	if e.secure {
		err = e.shakeHands(ctx, o.dialTimeout())
		e.keepTLS()
	}
	if err == nil {
		err = e.call(ctx, o.dialTimeout())
	}
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*mismatchError](err); known || peer.Settled(err) {
		return err
	}
	if found := e.speaksHTTP1(ctx, err); found != nil {
		return found
	}
	return e.explain(ctx, err, "gRPC", "use grpc:// and insecure.NewCredentials()", "use grpcs:// and credentials.NewTLS")
}

// withoutHTTP2 returns the error of a TLS server that does not offer HTTP/2.
func withoutHTTP2(err error) error {
	return &mismatchError{
		err, "gRPC needs h2 by ALPN",
		"the server offers no HTTP/2 on this port: is it a gRPC server, and does the proxy before it pass HTTP/2 on?", health.KindProtocol,
	}
}

// shakeHands opens a connection with TLS, as gRPC does, and closes it. Its error has a type, which
// gRPC's own errors lack.
func (e *endpoint) shakeHands(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := e.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	conf := e.client.Clone()
	conf.NextProtos = []string{"h2"}
	began := time.Now()
	secure := tls.Client(c, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
			header.Conn = nil
			return &mismatchError{
				header, "the server answers without TLS on this port",
				"this port does not speak TLS: give the port that does, or use grpc:// and insecure.NewCredentials()", health.KindTLS,
			}
		}
		if strings.Contains(err.Error(), "no application protocol") { // alert 120 of RFC 7301
			return withoutHTTP2(err)
		}
		return err
	}
	e.Latency.TLS = ms(time.Since(began))
	if p := secure.ConnectionState().NegotiatedProtocol; p != "h2" {
		return withoutHTTP2(fmt.Errorf("the server chooses the protocol %q", p))
	}
	return nil
}

// speaksHTTP1 returns an error that explains err if the server answers with HTTP/1.
func (e *endpoint) speaksHTTP1(ctx context.Context, err error) error {
	if e.secure || peer.Identify(ctx, e.dial) != peer.HTTP {
		return nil
	}
	return &mismatchError{
		err, "an HTTP/1 server answers at this address",
		"an HTTP/1 server listens there, and no gRPC server: check host and port, and whether the proxy before it passes HTTP/2 on", health.KindProtocol,
	}
}

// call asks by the health protocol. It fails if the server gives no answer of gRPC.
func (e *endpoint) call(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	creds := insecure.NewCredentials()
	if e.secure {
		creds = credentials.NewTLS(e.client)
	}
	host, _ := e.host()
	conn, err := grpc.NewClient("passthrough:///"+e.addr,
		grpc.WithTransportCredentials(creds), grpc.WithAuthority(host), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostBody)), grpc.WithMaxHeaderListSize(mostHeader),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return e.dial(ctx) }))
	if err != nil {
		return errors.New("the target cannot be used")
	}
	defer func() { _ = conn.Close() }()
	service := strings.Trim(e.url.Path, "/")
	e.GRPC = &GRPC{Service: service}
	for range 2 { // the second without the connection's own time
		began := time.Now()
		answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if code := status.Code(err); slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Canceled}, code) {
			e.GRPC = nil
			return callError{status.Convert(err)}
		} else if err != nil {
			e.GRPC.Health = code.String()
		} else {
			e.GRPC.Health = answer.GetStatus().String()
		}
		e.Latency.Answer = ms(time.Since(began))
	}
	e.Server.Server = "gRPC"
	return nil
}

// callError is a failed call.
type callError struct{ status *status.Status }

func (e callError) Error() string { return fmt.Sprintf("%s: %s", e.status.Code(), e.status.Message()) }

// HealthFault gives health.Classify its kind and advice.
func (e callError) HealthFault() health.Fault {
	switch text := e.status.Message(); {
	case e.status.Code() == codes.DeadlineExceeded, strings.Contains(text, "deadline exceeded"):
		return health.FaultOf(health.KindTimeout)
	case strings.Contains(text, "connection refused"):
		return health.FaultOf(health.KindRefused)
	case strings.Contains(text, "EOF"), strings.Contains(text, "reset by peer"), strings.Contains(text, "closed"):
		return health.FaultOf(health.KindReset)
	}
	return health.FaultOf(health.KindProtocol)
}
