package grpcclient_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/grpcclient"
)

var (
	_ lifecycle.Component        = (*grpcclient.Client)(nil)
	_ lifecycle.Drainer          = (*grpcclient.Client)(nil)
	_ lifecycle.Aborter          = (*grpcclient.Client)(nil)
	_ lifecycle.Checker          = (*grpcclient.Client)(nil)
	_ lifecycle.StatsProvider    = (*grpcclient.Client)(nil)
	_ lifecycle.HolderLister     = (*grpcclient.Client)(nil)
	_ lifecycle.SettingsProvider = (*grpcclient.Client)(nil)
	_ lifecycle.ObserverSetter   = (*grpcclient.Client)(nil)
	_ lifecycle.EventSource      = (*grpcclient.Client)(nil)
	_ lifecycle.NameSetter       = (*grpcclient.Client)(nil)
	_ lifecycle.LoggerSetter     = (*grpcclient.Client)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a gRPC server with the health service. Its streams (Watch) go on until they are ended.
type server struct {
	*grpc.Server

	health *health.Server
	addr   string
}

// serve serves on addr, or on a free address if it is empty.
func serve(t *testing.T, addr string) *server {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{grpc.NewServer(), health.NewServer(), l.Addr().String()}
	healthpb.RegisterHealthServer(s.Server, s.health)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return s
}

func client(t *testing.T, addr string) *grpcclient.Client {
	t.Helper()
	c, err := grpcclient.New(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c.SetLogger(testkit.Silent())
	t.Cleanup(func() { _ = c.Abort() })
	return c
}

func TestCallsAreCountedAndDrained(t *testing.T) {
	srv := serve(t, "")
	c := client(t, srv.addr)
	c.SetName("billing")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	api := healthpb.NewHealthClient(c.Conn())
	if _, err := api.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Acquired != 1 || s.Open != 1 || s.InUse != 0 || s.Use.Count != 1 || c.InFlight() != 0 {
		t.Errorf("%+v, %d in flight", s, c.InFlight())
	}
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	stream, err := api.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if h := c.Holders(); len(h) != 1 || c.InFlight() != 1 || !strings.Contains(h[0].Stack, "client_test.go") {
		t.Errorf("in flight: %d, %+v", c.InFlight(), h)
	}
	if err = c.Drain(testkit.Within(t, 50*time.Millisecond)); err == nil || !strings.Contains(err.Error(), `drain "billing": 1 call still in flight`) {
		t.Errorf("Drain: %v", err)
	}
	_, err = api.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if !errors.Is(err, poolkeeper.ErrDraining) || status.Code(err) != codes.Unavailable {
		t.Errorf("a call after Drain: %v", err)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("Check while draining: %v", err)
	}
	hangUp()
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Refused != 1 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

func TestStopCutsAndNamesStreamsThatDoNotEnd(t *testing.T) {
	srv := serve(t, "")
	c := client(t, srv.addr)
	c.SetName("billing")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stream, err := healthpb.NewHealthClient(c.Conn()).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); err != nil {
		t.Fatal(err)
	}
	err = c.Stop(testkit.Within(t, 50*time.Millisecond))
	held, ok := errors.AsType[*poolkeeper.HeldError](err)
	if !ok || held.Cut != 1 || !strings.Contains(err.Error(), "client_test.go") {
		t.Errorf("Stop: %v", err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
	if err := c.Start(t.Context()); !errors.Is(err, poolkeeper.ErrClosed) {
		t.Errorf("Start after Stop: %v", err)
	}
}

func TestStartWaitsForTheServerAndOutagesAreEvents(t *testing.T) {
	addr := testkit.FreeAddr(t)
	c := client(t, addr)
	kinds := make(chan poolkeeper.EventKind, 10)
	c.Subscribe(func(e poolkeeper.Event) { kinds <- e.Kind })
	if err := c.Start(testkit.Within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("without a server: %v", err)
	}
	srv := serve(t, addr)
	if err := c.Start(testkit.Within(t, testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	seen := make(chan error, 1)
	c.ObserveWith(observer(func(err error) {
		select {
		case seen <- err:
		default:
		}
	}))
	srv.Stop()
	var kind poolkeeper.EventKind
	arrives := func() bool { // a call each time: gRPC connects when it is needed
		_ = c.Check(t.Context())
		_, _ = healthpb.NewHealthClient(c.Conn()).Check(t.Context(), &healthpb.HealthCheckRequest{})
		select {
		case kind = <-kinds:
			return true
		default:
			return false
		}
	}
	testkit.Eventually(t, "the outage is an event", arrives)
	if kind != poolkeeper.EventDown || c.Stats().DownSince.IsZero() {
		t.Errorf("%s, down since %s", kind, c.Stats().DownSince)
	}
	if err := <-seen; err == nil {
		t.Error("the observer hears of a success")
	}
	serve(t, addr)
	testkit.Eventually(t, "its end is an event", func() bool { // without a call
		select {
		case kind = <-kinds:
			return true
		default:
			return false
		}
	})
	if kind != poolkeeper.EventUp || !c.Stats().DownSince.IsZero() {
		t.Errorf("%s, down since %s", kind, c.Stats().DownSince)
	}
}

type observer func(error)

func (o observer) Observe(err error) { o(err) }

func TestCheckFollowsTheHealthProtocol(t *testing.T) {
	srv := serve(t, "")
	c := client(t, srv.addr)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "NOT_SERVING") {
		t.Errorf("not serving: %v", err)
	}
	if err := client(t, srv.addr).Start(t.Context()); err == nil {
		t.Error("a client starts on a server that is not serving")
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bare := grpc.NewServer() // without the health service
	var wg sync.WaitGroup
	wg.Go(func() { _ = bare.Serve(l) })
	defer wg.Wait()
	defer bare.Stop()
	if err := client(t, l.Addr().String()).Start(t.Context()); err != nil {
		t.Errorf("without the protocol: %v", err)
	}
}

func TestStopWithoutStart(t *testing.T) {
	c := client(t, "127.0.0.1:1")
	if err := errors.Join(c.Stop(t.Context()), c.Stop(t.Context()), c.Abort()); err != nil {
		t.Error(err)
	}
	if _, err := grpcclient.New("127.0.0.1:1"); err == nil {
		t.Error("a client without credentials is accepted")
	}
}
