// Package grpcclient makes a gRPC client connection a component of a lifecycle registry. It is a
// module of its own, so that gRPC enters only the module graphs of services that use it.
//
//	billing, err := grpcclient.New("dns:///billing.internal:9090", grpc.WithTransportCredentials(creds))
//	reg.Add("billing", billing)
//	client := billingpb.NewBillingClient(billing.Conn())
//
// The life of a [Client]:
//
//	New ──Start──▶ the server answers ──Drain──▶ new calls refused, calls in flight go on ──Stop──▶ closed
//	                   │    ▲                                          └──deadline or Abort──▶ calls cut and named
//	                   └────┘ gRPC reconnects by itself: events down and up
//
// It refuses to retry and to balance: gRPC's service config does both.
package grpcclient
