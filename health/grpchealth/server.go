package grpchealth

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper/health"
)

// Server implements grpc_health_v1.HealthServer. It is safe for concurrent use.
type Server struct {
	healthpb.UnimplementedHealthServer

	monitor *health.Monitor
	targets map[string]string // services by the group or check that answers for them; never changes
}

// Option changes what a Server answers for.
type Option func(*Server)

// Service makes the group or check named target answer for a gRPC service. A target that does not
// exist (yet) makes the service unknown.
func Service(service, target string) Option {
	return func(s *Server) { s.targets[service] = target }
}

// New returns a server that answers for m.
func New(m *health.Monitor, opts ...Option) *Server {
	s := &Server{monitor: m, targets: map[string]string{"": health.GroupReady}}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Check answers for one service. One that is unknown is codes.NotFound.
func (s *Server) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	serving, known := s.verdict(s.monitor.Report(), req.GetService())
	if !known {
		return nil, status.Errorf(codes.NotFound, "no service, group or check of this name: %q", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: serving}, nil
}

// List answers for all services that were mapped and all groups.
func (s *Server) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	report := s.monitor.Report()
	all := map[string]*healthpb.HealthCheckResponse{}
	add := func(name string) {
		serving, _ := s.verdict(report, name)
		all[name] = &healthpb.HealthCheckResponse{Status: serving}
	}
	for _, g := range report.Groups {
		add(g.Name)
	}
	for name := range s.targets {
		add(name)
	}
	return &healthpb.HealthListResponse{Statuses: all}, nil
}

// Watch sends the status of one service now and whenever it changes; SERVICE_UNKNOWN while it is
// not known. When the monitor drains it sends NOT_SERVING and ends the stream with
// codes.Unavailable.
func (s *Server) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ctx := stream.Context()
	changes := s.monitor.Watch(ctx) // before the first look, so that nothing is missed in between
	last := healthpb.HealthCheckResponse_ServingStatus(-1)
	for {
		report := s.monitor.Report()
		serving, known := s.verdict(report, req.GetService())
		if !known {
			serving = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
		}
		if serving != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: serving}); err != nil {
				return err
			}
			last = serving
		}
		if report.Draining {
			return status.Error(codes.Unavailable, "draining")
		}
		if err := s.await(ctx, changes); err != nil {
			return err
		}
	}
}

// await returns when there may be something new, or the error that ends a stream.
func (s *Server) await(ctx context.Context, changes <-chan health.Transition) error {
	select {
	case <-s.monitor.Draining():
	case _, open := <-changes:
		if !open && ctx.Err() == nil {
			return status.Error(codes.Unavailable, "health checks have stopped")
		}
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return nil
}

// verdict is what report says of a service, and whether it is known.
func (s *Server) verdict(report *health.Report, service string) (healthpb.HealthCheckResponse_ServingStatus, bool) {
	name := service
	if target, ok := s.targets[service]; ok {
		name = target
	}
	verdict := health.StatusUnknown
	if g, ok := report.Group(name); ok {
		verdict = g.Status
	} else if c, ok := report.Check(name); ok {
		verdict = c.Status
	} else {
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN, false
	}
	if !verdict.OK() || report.Draining && name != health.GroupLive {
		return healthpb.HealthCheckResponse_NOT_SERVING, true
	}
	return healthpb.HealthCheckResponse_SERVING, true
}
