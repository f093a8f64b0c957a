package poolkeeper

import "time"

// ServerInfo is what a server says of itself when it is asked without a pool that runs:
// redispool.Ask, sqlpool.AskPostgres, sqlpool.AskMySQL. What could not be found out is zero, or
// missing, and named in LeftOut. Nothing in it is a secret.
type ServerInfo struct {
	Server  string // "Redis", "Valkey", "PostgreSQL", "MySQL", "MariaDB"; empty: it has not said
	Version string // as the server writes it
	TLS     string // version of TLS: "TLS 1.3"; empty: without TLS

	Latency Latency

	// Certificates are those that the server has presented: first its own, then the authorities
	// that it has sent along.
	Certificates []Expiry

	// Settings are the server's settings that matter to a pool, by the server's own names and in
	// its own words.
	Settings map[string]string

	LeftOut []string // what could not be asked, and why: a command that the user may not run
}

// Latency is how long the steps of a connection take. A step that was not reached is 0.
type Latency struct {
	Connect time.Duration // the name's resolution, and the network's connect
	TLS     time.Duration // the TLS handshake; 0 without TLS
	Login   time.Duration // from there until the server takes commands

	Pings            int           // answered, on a connection that is open
	PingP50, PingP99 time.Duration // their median and their 99th percentile, by the nearest rank
}
