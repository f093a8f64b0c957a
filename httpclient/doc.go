// Package httpclient gives a service HTTP clients that are bounded, checked, drained and closed like
// its pools.
//
//	                 ┌────────────────────── Client ───────────────────────┐
//	http.Client ──▶  Wrap ──▶ gate ──▶ Authorize ──▶ one limit per stage ──▶ http.Transport ──▶ server
//	(native)         yours    drain    yours         acquire, dial, TLS,     MaxOpen, MaxIdle
//	                          down                   header, body, request
//
// [Client.HTTP] returns a plain *http.Client, so that every library works on it:
//
//	c, err := httpclient.New(httpclient.Config{Name: "billing", BaseURL: "https://billing.internal", CheckPath: "/healthz"})
//	reg.Add("billing", c)
//	resp, err := c.HTTP().Get("https://billing.internal/v1/invoices")
//
// A response whose body is not closed holds its connection. The client names the caller by file and
// line, in the log and in [Client.Holders], and cuts the connection at Stop.
//
// It refuses to retry, because only the caller knows what may be sent twice, and to follow the load
// of several hosts: that is for a balancer.
package httpclient
