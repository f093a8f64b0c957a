package grpcserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/grpcserver"
)

var (
	_ lifecycle.Component    = (*grpcserver.Server)(nil)
	_ lifecycle.Aborter      = (*grpcserver.Server)(nil)
	_ lifecycle.DoneNotifier = (*grpcserver.Server)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// blocking is a gRPC service with one method, which says that it was entered and waits to be
// released.
type blocking struct {
	entered chan struct{}
	release chan struct{}
	deaf    bool // ignores its context
}

func newBlocking(deaf bool) *blocking {
	return &blocking{entered: make(chan struct{}, 8), release: make(chan struct{}), deaf: deaf}
}

//nolint:revive // the order of the parameters is gRPC's
func (b *blocking) call(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	if err := decode(new(emptypb.Empty)); err != nil {
		return nil, err
	}
	b.entered <- struct{}{}
	done := ctx.Done()
	if b.deaf {
		done = nil
	}
	select {
	case <-b.release:
		return new(emptypb.Empty), nil
	case <-done:
		return nil, ctx.Err()
	}
}

func (b *blocking) register(srv *grpc.Server) {
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Blocking",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Call", Handler: b.call}},
	}, b)
}

// started serves b and returns the component and a client.
func started(t *testing.T, b *blocking, opts ...grpc.ServerOption) (*grpcserver.Server, *grpc.ClientConn) {
	t.Helper()
	srv := grpc.NewServer(opts...)
	b.register(srv)
	s := grpcserver.New(srv, "127.0.0.1:0")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Abort() })
	c, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

// invoke makes one call in the background and waits until the handler has it.
func invoke(t *testing.T, b *blocking, c *grpc.ClientConn) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		result <- c.Invoke(context.WithoutCancel(t.Context()), "/test.Blocking/Call", new(emptypb.Empty), new(emptypb.Empty))
	}()
	<-b.entered
	return result
}

func TestStopWaitsForCallsInFlightAndRefusesNewOnes(t *testing.T) {
	b := newBlocking(false)
	s, c := started(t, b)
	result := invoke(t, b, c)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	// The listener is closed first: once it refuses, the graceful stop has begun.
	for {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("Stop returned %v with a call in flight", err)
	case err := <-result:
		t.Fatalf("the call in flight ended with %v", err)
	default:
	}
	close(b.release)
	if err := <-result; err != nil {
		t.Fatalf("the call in flight failed: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatalf("second Stop: %v", err)
	}
}

func TestStopCutsAtItsDeadlineAndSaysSo(t *testing.T) {
	for name, opts := range map[string][]grpc.ServerOption{"default": nil, "wait for handlers": {grpc.WaitForHandlers(true)}} {
		t.Run(name, func(t *testing.T) {
			b := newBlocking(true)
			s, c := started(t, b, opts...)
			result := invoke(t, b, c)
			ctx, cancel := context.WithCancelCause(t.Context())
			late := errors.New("the deadline of the test")
			cancel(late)
			if err := s.Stop(ctx); !errors.Is(err, late) {
				t.Fatalf("Stop = %v, want the cause of its context", err)
			}
			if err := <-result; err == nil {
				t.Fatal("the call succeeded though it was cut")
			}
			close(b.release)
		})
	}
}

func TestStopAndAbortAreLegalWithoutStart(t *testing.T) {
	s := grpcserver.New(grpc.NewServer(), "127.0.0.1:0")
	if s.Addr() != nil {
		t.Fatal("an address before Start")
	}
	if err := errors.Join(s.Stop(t.Context()), s.Abort(), s.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("Start after Stop succeeded")
	}
}

func TestStartFailsOnATakenPortAndTwice(t *testing.T) {
	s, _ := started(t, newBlocking(false))
	if err := grpcserver.New(grpc.NewServer(), s.Addr().String()).Start(t.Context()); err == nil {
		t.Fatal("Start on a taken port succeeded")
	}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("second Start succeeded")
	}
}

func TestDeathOfTheListenerIsReported(t *testing.T) {
	srv := grpc.NewServer()
	s := grpcserver.New(srv, "127.0.0.1:0")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Stop() // behind the component's back
	if err := <-s.Done(); err == nil {
		t.Fatal("no error for a server that ended by itself")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentStopsAllReturn(t *testing.T) {
	s, _ := started(t, newBlocking(false))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
		if !errors.Is(err, io.EOF) {
			t.Fatal("the port is still served after Stop")
		}
	}
}
