// Package grpchealth answers gRPC's health checking protocol from the verdicts of a health monitor.
// It is a module of its own, so that gRPC enters only the module graphs of services that use it.
//
//	healthpb.RegisterHealthServer(srv, grpchealth.New(reg.Health(),
//		grpchealth.Service("shop.Orders", "orders"))) // this service is what the check "orders" says
//
// What a client may ask for:
//
//	""                    readiness
//	"ready", "startup",   the group of that name
//	"live", your own
//	a check's name        that check
//	a service's name      the group or check it was mapped to with [Service]
//
// Like a probe, a request runs no check and does no I/O. When the monitor begins to drain,
// everything but liveness is NOT_SERVING, and Watch streams end, because they would hold
// GracefulStop for ever.
//
// The protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
package grpchealth
