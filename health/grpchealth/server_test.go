package grpchealth_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/grpchealth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	unknown    = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

// fixture is a monitor with one check behind a real gRPC server.
type fixture struct {
	monitor *health.Monitor
	server  *grpc.Server
	client  healthpb.HealthClient
	broken  atomic.Bool
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{monitor: health.New(health.Config{}), server: grpc.NewServer()}
	_, err := f.monitor.Register(health.Check{
		Name: "orders", Interval: 5 * time.Millisecond, FailureThreshold: 1,
		Probe: func(context.Context) error {
			if f.broken.Load() {
				return errors.New("broken on purpose")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err = f.monitor.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	healthpb.RegisterHealthServer(f.server, grpchealth.New(f.monitor,
		grpchealth.Service("shop.Orders", "orders"), grpchealth.Service("shop.Gone", "nothing-there")))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	f.client = healthpb.NewHealthClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		f.server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := f.monitor.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return f
}

// watch returns the stream for a service.
func (f *fixture) watch(t *testing.T, service string) grpc.ServerStreamingClient[healthpb.HealthCheckResponse] {
	t.Helper()
	stream, err := f.client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// next reads until the stream says want: what it says before the first result of a check depends on
// the moment.
func next(t *testing.T, stream grpc.ServerStreamingClient[healthpb.HealthCheckResponse], want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	for {
		r, err := stream.Recv()
		if err != nil {
			t.Fatalf("waiting for %v: %v", want, err)
		}
		if r.GetStatus() == want {
			return
		}
	}
}

func TestCheckAnswersForGroupsChecksAndServices(t *testing.T) {
	f := newFixture(t)
	next(t, f.watch(t, ""), serving)
	for service, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"": serving, "ready": serving, "live": serving, "orders": serving, "shop.Orders": serving,
	} {
		r, err := f.client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.GetStatus() != want {
			t.Errorf("Check(%q) = %v, %v; want %v", service, r.GetStatus(), err, want)
		}
	}
	for _, service := range []string{"nobody", "shop.Gone"} {
		if _, err := f.client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service}); status.Code(err) != codes.NotFound {
			t.Errorf("Check(%q) = %v, want NotFound", service, err)
		}
	}
	list, err := f.client.List(t.Context(), &healthpb.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"": serving, "ready": serving, "shop.Orders": serving, "shop.Gone": unknown,
	} {
		if got := list.GetStatuses()[service].GetStatus(); got != want {
			t.Errorf("List says %v of %q, want %v", got, service, want)
		}
	}
}

func TestWatchTellsEveryChange(t *testing.T) {
	f := newFixture(t)
	ready, orders := f.watch(t, ""), f.watch(t, "shop.Orders")
	next(t, ready, serving)
	next(t, orders, serving)
	f.broken.Store(true)
	next(t, ready, notServing)
	next(t, orders, notServing)
	f.broken.Store(false)
	next(t, ready, serving)
	next(t, orders, serving)
}

func TestWatchOfAnUnknownServiceWaitsForIt(t *testing.T) {
	f := newFixture(t)
	stream := f.watch(t, "later")
	next(t, stream, unknown)
	if _, err := f.monitor.Register(health.Check{Name: "later", Probe: func(context.Context) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	next(t, stream, serving)
}

// INV-3, and GracefulStop must not wait for watchers.
func TestDrainingEndsStreamsSoThatGracefulStopReturns(t *testing.T) {
	for name, broken := range map[string]bool{"while ready": false, "while not ready already": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.broken.Store(broken)
			stream := f.watch(t, "")
			if broken {
				next(t, stream, notServing)
			} else {
				next(t, stream, serving)
			}
			f.monitor.SetDraining()
			var err error
			last := unknown
			for err == nil {
				var r *healthpb.HealthCheckResponse
				if r, err = stream.Recv(); err == nil {
					last = r.GetStatus()
				}
			}
			if status.Code(err) != codes.Unavailable || (!broken && last != notServing) {
				t.Fatalf("the stream ended with %v after %v", err, last)
			}
			r, err := f.client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "shop.Orders"})
			if err != nil || r.GetStatus() != notServing {
				t.Errorf("Check while draining = %v, %v", r.GetStatus(), err)
			}
			f.server.GracefulStop() // hangs if a stream is left
		})
	}
}
