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
// [Config.Hosts] are several servers of one service. Requests take turns among them and skip those
// that are down. [Config.Isolation] takes hosts that serve badly out of rotation.
//
// A client does not retry: only the caller knows which requests may be sent twice. If no connection
// to a host could be opened, nothing was sent, and the request goes to the next host.
package httpclient
