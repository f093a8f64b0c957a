package doctor

import (
	"encoding/json"
	"io"
	"time"
)

// Report has the answers of all servers. Its JSON is that of --json.
type Report struct {
	Healthy bool     `json:"healthy"` // every server is reachable, and nothing should be changed
	Servers []Server `json:"servers"`
}

// Server has the answer of one server. A field that is not known is left out.
type Server struct {
	Target    string `json:"target"` // scheme, host and path of the URL
	Kind      string `json:"kind"`   // redis, postgres, mysql, http or grpc
	Reachable bool   `json:"reachable"`

	Error  string `json:"error,omitempty"`
	Cause  string `json:"cause,omitempty"` // the class of Error, as of health.Kind
	Advice string `json:"advice,omitempty"`

	Server  string `json:"server,omitempty"` // its product
	Version string `json:"version,omitempty"`
	TLS     string `json:"tls,omitempty"` // the version of TLS

	Latency      Latency           `json:"latency"`
	Settings     map[string]string `json:"settings,omitempty"` // the server's, by its own names
	Limits       Limits            `json:"limits,omitzero"`
	Budget       Budget            `json:"budget,omitzero"`
	Addresses    []Address         `json:"addresses,omitempty"` // of an HTTP or gRPC server
	Proxy        string            `json:"proxy,omitempty"`     // the proxy of the environment, for an HTTP server
	HTTP         *HTTP             `json:"http,omitempty"`
	GRPC         *GRPC             `json:"grpc,omitempty"`
	Certificates []Certificate     `json:"certificates,omitempty"` // the server's own first

	Findings []Finding `json:"findings,omitempty"`
	LeftOut  []string  `json:"left_out,omitempty"` // questions that could not be asked, and why

	silent time.Duration // the silence after which the server closes a connection; 0: never
}

// Latency is in milliseconds. A step that was not reached is 0.
type Latency struct {
	Lookup  float64 `json:"lookup_ms,omitempty"` // of the host's name
	Connect float64 `json:"connect_ms"`
	TLS     float64 `json:"tls_ms"`
	Login   float64 `json:"login_ms"`
	Pings   int     `json:"pings"`
	PingP50 float64 `json:"ping_p50_ms"`
	PingP99 float64 `json:"ping_p99_ms"`
	Answer  float64 `json:"answer_ms,omitempty"` // of an HTTP or gRPC request, on an open connection if possible
}

// Limits are the server's.
type Limits struct {
	MaxConnections  int     `json:"max_connections,omitempty"`
	Reserved        int     `json:"reserved,omitempty"`   // of these, for superusers and the like
	UserLimit       int     `json:"user_limit,omitempty"` // of this user or database
	OnServer        int     `json:"on_server,omitempty"`  // connections now, of all clients
	Node            string  `json:"node,omitempty"`       // of a Cluster, the one that grants least
	IdleTimeout     float64 `json:"idle_timeout_seconds,omitempty"`
	Pooled          bool    `json:"pooled,omitempty"`           // a pooler such as pgbouncer stands before it
	TransactionMode bool    `json:"transaction_mode,omitempty"` // of the pooler
	Proxied         bool    `json:"proxied,omitempty"`          // a proxy stands before it
}

// Budget compares the connections that all instances may open with those that the server grants.
type Budget struct {
	PerInstance int `json:"per_instance"` // MaxOpen, and one for checks
	Instances   int `json:"instances"`
	Surge       int `json:"surge"` // more instances in a rolling update
	Demand      int `json:"demand"`
	Granted     int `json:"granted,omitempty"` // 0: not known, or decided by a pooler
}

// Certificate is one that the server has presented.
type Certificate struct {
	Kind     string    `json:"kind"` // one of poolkeeper's Expiry constants
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// WriteJSON writes the report as one JSON document.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
