package grpcclient

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/life"
)

// ownCall marks the context of the client's own calls, which are not counted and not refused.
type ownCall struct{}

// refusal is the error of a call that begins after Drain. Its gRPC status is Unavailable; it matches
// poolkeeper.ErrDraining or poolkeeper.ErrClosed.
type refusal struct {
	client string
	err    error
}

func (r *refusal) Error() string { return `grpcclient: call of "` + r.client + `": ` + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// GRPCStatus makes status.FromError know it.
func (r *refusal) GRPCStatus() *status.Status { return status.New(codes.Unavailable, r.Error()) }

// begin counts a call. The function it returns ends the call, once.
func (c *Client) begin() (end func(error), err error) {
	if !c.gate.Enter() {
		c.refused.Add(1)
		return nil, &refusal{c.state.Name(), max(c.state.At(), life.Draining).Refusal()}
	}
	c.begun.Add(1)
	entry, once := new(holders.Entry), new(sync.Once)
	began := time.Now()
	c.held.HoldAt(entry, poolkeeper.KindRequest, began)
	return func(err error) {
		once.Do(func() {
			c.held.Release(entry)
			c.use.Record(time.Since(began))
			c.observe(err)
			c.gate.Leave()
		})
	}, nil
}

// observe tells the observer whether the server was reached. Any other answer of the server shows that
// it was.
func (c *Client) observe(err error) {
	switch status.Code(err) { //nolint:exhaustive // the rest are answers
	case codes.Unavailable:
		c.observer.Observe(err)
	case codes.Canceled, codes.DeadlineExceeded: // the caller gave up
	default:
		c.observer.Succeeded()
	}
}

// unary is a grpc.UnaryClientInterceptor.
func (c *Client) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if ctx.Value(ownCall{}) != nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	end, err := c.begin()
	if err != nil {
		return err
	}
	defer func() { end(err) }()
	err = invoke(ctx, method, req, reply, cc, opts...)
	return err
}

// stream is a grpc.StreamClientInterceptor. gRPC calls OnFinish when the stream ends, for any reason.
func (c *Client) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	end, err := c.begin()
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, desc, cc, method, append(slices.Clip(opts), grpc.OnFinish(end))...)
	if err != nil {
		end(err)
		return nil, err
	}
	return s, nil
}
