package grpcclient_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle/grpcclient"
)

func TestStreamThatItsServerBreaksIsObservedAsAFailure(t *testing.T) {
	srv := serve(t, "")
	c := client(t, srv.addr)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := make(chan error, 10)
	c.ObserveWith(observer(func(err error) { seen <- err }))
	stream, err := healthpb.NewHealthClient(c.Conn()).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	if _, err = stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("the stream ends with %v", err)
	}
	select {
	case err = <-seen:
		if status.Code(err) != codes.Unavailable {
			t.Errorf("the observer sees %v", err)
		}
	case <-time.After(testkit.Patience):
		t.Error("the observer does not hear of it")
	}
	if n := c.InFlight(); n != 0 {
		t.Errorf("%d calls are in flight", n)
	}
}

// A stream that its caller gives up says nothing about the server, and is not in flight any more.
func TestStreamThatIsGivenUpIsOver(t *testing.T) {
	srv := serve(t, "")
	c := client(t, srv.addr)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.ObserveWith(observer(func(err error) { t.Errorf("the observer sees %v", err) }))
	for range 100 {
		ctx, hangUp := context.WithCancel(t.Context())
		if _, err := healthpb.NewHealthClient(c.Conn()).Watch(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
		hangUp()
	}
	testkit.Eventually(t, "no stream is in flight", func() bool { return c.InFlight() == 0 })
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStopDuringStartOnAHungServerEndsBoth(t *testing.T) {
	c := client(t, testkit.HungAddr(t))
	started := make(chan error, 1)
	go func() { started <- c.Start(testkit.Within(t, testkit.Patience)) }()
	testkit.Eventually(t, "it connects", func() bool { return c.Conn().GetState().String() == "CONNECTING" })
	if err := c.Stop(testkit.Within(t, testkit.Patience)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := <-started; err == nil {
		t.Error("Start succeeds on a server that never answers")
	}
}

func TestClientStopsInEveryState(t *testing.T) {
	for name, enter := range map[string]func(*testing.T) *grpcclient.Client{
		"new": func(t *testing.T) *grpcclient.Client { t.Helper(); return client(t, testkit.HungAddr(t)) },
		"start failed": func(t *testing.T) *grpcclient.Client {
			t.Helper()
			c := client(t, testkit.HungAddr(t))
			if c.Start(testkit.Within(t, 20*time.Millisecond)) == nil {
				t.Error("Start succeeds")
			}
			return c
		},
		"up": func(t *testing.T) *grpcclient.Client {
			t.Helper()
			c := client(t, serve(t, "").addr)
			if err := c.Start(t.Context()); err != nil {
				t.Error(err)
			}
			return c
		},
		"down": func(t *testing.T) *grpcclient.Client {
			t.Helper()
			srv := serve(t, "")
			c := client(t, srv.addr)
			if err := c.Start(t.Context()); err != nil {
				t.Error(err)
			}
			srv.Stop()
			testkit.Eventually(t, "it is down", func() bool { return c.Check(t.Context()) != nil })
			return c
		},
		"drained": func(t *testing.T) *grpcclient.Client {
			t.Helper()
			c := client(t, serve(t, "").addr)
			if err := errors.Join(c.Start(t.Context()), c.Drain(t.Context())); err != nil {
				t.Error(err)
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := enter(t)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := c.Stop(testkit.Within(t, testkit.Patience)); err != nil {
						t.Errorf("Stop: %v", err)
					}
				})
			}
			wg.Wait()
			if err := errors.Join(c.Abort(), c.Drain(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that closes each connection after a while with GOAWAY loses no call.
func TestNoCallFailsWhenConnectionsAreRenewed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int64
	srv := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 20 * time.Millisecond, MaxConnectionAgeGrace: time.Minute,
	}))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(counting{l, &conns}) })
	t.Cleanup(func() { srv.Stop(); wg.Wait() })
	c := client(t, l.Addr().String())
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	api := healthpb.NewHealthClient(c.Conn())
	for conns.Load() < 10 {
		if _, err := api.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

type counting struct {
	net.Listener

	n *atomic.Int64
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.n.Add(1)
	return conn, err
}
