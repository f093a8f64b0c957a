package poolkeeper

import "time"

// ServerInfo describes a server, as redispool.Ask, sqlpool.AskPostgres and sqlpool.AskMySQL find it.
// A value that could not be found out is zero or missing, and LeftOut names it. It holds no secret.
type ServerInfo struct {
	Server  string // "Redis", "Valkey", "PostgreSQL", "MySQL", "MariaDB"; empty: not known
	Version string // as the server writes it
	TLS     string // version of TLS: "TLS 1.3"; empty: without TLS

	Latency Latency

	// Certificates is the chain that the server presented: first its own certificate, then the
	// authorities.
	Certificates []Expiry

	// Settings are the server's settings that matter to a pool, under the server's own names, with
	// the values as it prints them.
	Settings map[string]string

	LeftOut []string // values that could not be found out, and why: the user may not run a command
}

// Latency has the duration of each step of a connection. A step that was not reached is 0.
type Latency struct {
	Connect time.Duration // name resolution and TCP connect
	TLS     time.Duration // the TLS handshake; 0 without TLS
	Login   time.Duration // from then until the server takes commands

	Pings            int           // answered, on a connection that is open
	PingP50, PingP99 time.Duration // their median and their 99th percentile, by the nearest rank
}
