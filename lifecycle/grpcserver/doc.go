// Package grpcserver makes a gRPC server a component of a lifecycle registry. It is a module of its
// own, so that gRPC enters only the module graphs of services that use it.
//
//	srv := grpc.NewServer()
//	orderspb.RegisterOrdersServer(srv, handlers)
//	reg.Add("grpc", grpcserver.New(srv, ":9090"), lifecycle.WithDependencies("orders"))
//
// The life of a [Server]:
//
//	New ──Start──▶ serving ──Stop──▶ GOAWAY, calls in flight go on ──last one done──▶ stopped
//	                  │                            └──deadline or Abort──▶ connections cut, stopped
//	                  └──listener fails──▶ Done reports it
//
// It refuses to end streaming calls by itself: a call that goes on for ever holds [Server.Stop]
// until its deadline. Handlers that stream should watch a context or channel that ends when the
// service drains.
package grpcserver
