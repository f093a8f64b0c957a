package measure

import (
	"slices"
	"strings"
)

// Type is the kind of a metric's numbers.
type Type uint8

// The types of a metric.
const (
	Gauge     Type = iota // it goes up and down; sums of it mean nothing, or little
	UpDown                // a gauge that may be summed, such as connections
	Counter               // it only grows, from 0 at the start of the process
	Histogram             // durations in buckets
)

// String returns the type in Prometheus' words, which knows no UpDown.
func (t Type) String() string {
	switch t {
	case Counter:
		return "counter"
	case Histogram:
		return "histogram"
	case Gauge, UpDown:
	}
	return "gauge"
}

// Metric describes one metric. It never changes.
type Metric struct {
	Name   string   // in Prometheus
	OTel   string   // in OpenTelemetry, where Attribute names the labels
	Unit   string   // as in UCUM, which OpenTelemetry uses: "s", "{connection}"
	Help   string   // a sentence
	Type   Type     // of the numbers
	Labels []string // names of the labels in Prometheus, at most maxLabels
}

// Labels that more than one metric has.
const (
	LabelPool      = "db_client_connection_pool_name" // the component that is the pool
	LabelPoolState = "db_client_connection_state"     // idle or used
	LabelComponent = "component"
	LabelCheck     = "check"
	LabelMember    = "member"
)

const maxLabels = 3

// Units.
const (
	seconds     = "s"
	flag        = "" // 0 or 1, or a score; the unit "1" would name it a ratio in Prometheus
	connections = "{connection}"
)

// Attribute returns the name of a label in OpenTelemetry. Labels for which the conventions have no name
// are named as in Prometheus, so that the same rules and dashboards serve both exporters.
func Attribute(label string) string {
	switch label {
	case LabelPool:
		return "db.client.connection.pool.name"
	case LabelPoolState:
		return "db.client.connection.state"
	}
	return label
}

// IsInteger reports whether the numbers of the metric are whole.
func (m *Metric) IsInteger() bool { return m.Unit != seconds }

// Table returns all metrics, in the order of the documentation.
func Table() []*Metric { return slices.Clone(table[:]) }

// ByName returns the metric with a name in Prometheus, or nil.
func ByName(name string) *Metric {
	for _, m := range table {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// The metrics of a pool, under the names of the semantic conventions.
//
//nolint:gochecknoglobals // a constant table
var (
	Count = conventional("count", connections, UpDown,
		"Connections that are open now, by state.", LabelPoolState)
	IdleMax = conventional("idle.max", connections, UpDown,
		"Most idle connections that the pool may keep open.")
	IdleMin = conventional("idle.min", connections, UpDown,
		"Idle connections that the pool keeps ready.")
	Max = conventional("max", connections, UpDown,
		"Most connections that the pool may open.")
	Pending = conventional("pending_requests", "{request}", UpDown,
		"Callers that wait for a connection now.")
	Timeouts = conventional("timeouts", "{timeout}", Counter,
		"Acquisitions that gave up, at AcquireTimeout or the caller's deadline.")
	CreateTime = conventional("create_time", seconds, Histogram,
		"Time to open a connection.")
	WaitTime = conventional("wait_time", seconds, Histogram,
		"Time to acquire a connection; on Redis only of callers that had to wait.")
	UseTime = conventional("use_time", seconds, Histogram,
		"Time that a connection was held.")
)

// The metrics of a pool for which the conventions have no name.
//
//nolint:gochecknoglobals // a constant table
var (
	Acquired = ofPool("acquired", "{acquisition}", Counter,
		"Acquisitions that got a connection.")
	Refused = ofPool("refused", "{acquisition}", Counter,
		"Acquisitions refused at once: the server is down, or MaxWaiting callers wait already.")
	Waits = ofPool("waits", "{acquisition}", Counter,
		"Acquisitions that had to wait.")
	WaitSum = ofPool("wait", seconds, Counter,
		"Total time that acquisitions have waited.")
	Dialing = ofPool("dialing", connections, UpDown,
		"Connections that the pool is opening now.")
	Dials = ofPool("dials", connections, Counter,
		"Connections opened.")
	DialErrors = ofPool("dial_errors", "{attempt}", Counter,
		"Attempts to open a connection that failed.")
	LastDialError = ofPool("last_dial_error.timestamp", seconds, Gauge,
		"Time of the last failed attempt to open a connection, in seconds since 1970.")
	Closed = ofPool("closed", connections, Counter,
		"Connections that the pool closed, by reason.", "reason")
	Generations = ofPool("generations", "{generation}", Counter,
		"Resets: how often all connections were replaced.")
	Leaks = ofPool("leaks", connections, Counter,
		"Connections held for longer than LeakThreshold, each counted once.")
	Reclaimed = ofPool("reclaimed", connections, Counter,
		"Connections that the pool took away from their holders after ReclaimAfter.")
	Reused = ofPool("reused", "{acquisition}", Counter,
		"Acquisitions that got a connection used before; only of HTTP clients.")
	Unread = ofPool("unread", "{response}", Counter,
		"Responses closed before their end, each of which costs a connection; only of HTTP clients.")
	OldestHold = ofPool("oldest_hold", seconds, Gauge,
		"Age of the oldest hold; 0 if no connection is held.")
	Down = ofPool("down", flag, Gauge,
		"1 while the server is down and callers fail at once.")
	Paused = ofPool("paused", flag, Gauge,
		"1 while the pool is paused.")
	SweepLate = ofPool("sweep_late", seconds, Gauge,
		"How long eviction is overdue; 0 if it is on time or off.")
)

// The fleet's demand, and the server's limits.
//
//nolint:gochecknoglobals // a constant table
var (
	FleetDemand = ofFleet("demand", connections, UpDown,
		"Connections that all instances of the service may open during a rolling update.")
	FleetLimit = ofFleet("limit", connections, UpDown,
		"Connections that the server grants to all instances.")
	FleetConnections = ofFleet("connections", connections, UpDown,
		"Connections of all clients on the server, as of the last query of its limits.")
	FleetWarnings = ofFleet("warnings", "{warning}", Gauge,
		"Number of the server's limits that do not fit the configuration.")
	FleetAsked = ofFleet("asked.timestamp", seconds, Gauge,
		"Time of the last query of the server's limits, in seconds since 1970.")
)

// The members of a replicated pool, and the nodes of a Redis Cluster.
//
//nolint:gochecknoglobals // a constant table
var (
	Members = ofPool("members", "{member}", UpDown,
		"Servers of the pool; the first 100 by name have metrics of their own.")
	MemberOpen = ofMember("open", connections, UpDown,
		"Connections to the member that are open now.")
	MemberInUse = ofMember("in_use", connections, UpDown,
		"Connections to the member that callers hold now.")
	MemberDown = ofMember("down", flag, Gauge,
		"1 while the member is down.")
	MemberPrimary = ofMember("primary", flag, Gauge,
		"1 if the member takes writes.")
	MemberInRotation = ofMember("in_rotation", flag, Gauge,
		"1 while the member serves callers.")
	MemberLag = ofMember("lag", seconds, Gauge,
		"How far a replica is behind its primary, where it is known.")
	MemberScore = ofMember("score", flag, Gauge,
		"How well the member serves, from 0 to 100, where isolation is on.")
	MemberIsolated = ofMember("isolated", flag, Gauge,
		"1 while the member serves worse than the others: it has no traffic, or that of a trial.")
	MemberState = ofMember("state", flag, Gauge,
		"1 for the present state of the member; other states have no series.", "state")
)

// The verdicts of the health monitor.
//
//nolint:gochecknoglobals // a constant table
var (
	CheckStatus = ofCheck("status", flag, Gauge,
		"1 for the present status of the check, 0 for every other status.", "status")
	CheckAge = ofCheck("age", seconds, Gauge,
		"Age of the last result of the check.")
	CheckMaxAge = ofCheck("max_age", seconds, Gauge,
		"Age at which the last result of the check is stale.")
	CheckDuration = ofCheck("last_duration", seconds, Gauge,
		"How long the last run of the check took.")
	CheckRuns = ofCheck("runs", "{run}", Counter,
		"Runs of the check.")
	CheckFailedRuns = ofCheck("failed_runs", "{run}", Counter,
		"Runs of the check that failed or timed out.")
	CheckFailures = ofCheck("failures", "{run}", Gauge,
		"Consecutive failed runs of the check.")
	CheckHung = ofCheck("hung", flag, Gauge,
		"1 while a run of the check hangs past its timeout.")
	GroupStatus = metric("group.status", flag, Gauge,
		"1 for the present status of the group of checks, 0 for every other status.", "group", "status")
	HeartbeatAge = metric("heartbeat.age", seconds, Gauge,
		"Time since the last beat of the heartbeat.", "heartbeat")
	HeartbeatMaxAge = metric("heartbeat.max_age", seconds, Gauge,
		"Longest time between two beats before the heartbeat fails.", "heartbeat")
)

// The components of the registry.
//
//nolint:gochecknoglobals // a constant table
var (
	Phase = metric("registry.phase", flag, Gauge,
		"1 for the present phase of the registry, 0 for every other phase.", "phase")
	ComponentState = ofComponent("component.state", flag, Gauge,
		"1 for the present state of the component, 0 for every other state.", "state")
	ComponentStart = ofComponent("component.start_duration", seconds, Gauge,
		"How long the last start of the component took.")
	ComponentStop = ofComponent("component.stop_duration", seconds, Gauge,
		"How long the last stop of the component took, its drain included.")
	ComponentRestarts = ofComponent("component.restarts", "{restart}", Counter,
		"How often the component was restarted.")
	Unreadable = ofComponent("component.unreadable", flag, Gauge,
		"1 if reading the numbers of the component panicked or did not return.")
	Expiry = ofComponent("expiry.timestamp", seconds, Gauge,
		"Expiry of a certificate or credential, in seconds since 1970; the earliest of its kind and subject.",
		"kind", "subject")
)

// Servers that answer requests.
//
//nolint:gochecknoglobals // a constant table
var (
	ServerInFlight = ofComponent("server.requests_in_flight", "{request}", UpDown,
		"Requests in flight, streams included.")
	ServerStreams = ofComponent("server.streams", "{request}", UpDown,
		"Requests that last until one side ends them, such as server-sent events.")
	ServerConnections = ofComponent("server.connections", connections, UpDown,
		"Connections of clients that are open now, hijacked ones included.")
	ServerHijacked = ofComponent("server.hijacked", connections, UpDown,
		"Connections that a handler has taken over, such as WebSockets.")
	ServerRequests = ofComponent("server.requests", "{request}", Counter,
		"Requests that a handler has begun to answer.")
	ServerRefused = ofComponent("server.refused", "{request}", Counter,
		"Requests that the server refused while it drained.")
)

// Long-lived connections of clients.
//
//nolint:gochecknoglobals // a constant table
var (
	StreamsOpen = ofComponent("streams.open", connections, UpDown,
		"Streams that are open now, by kind.", "kind")
	StreamsBuffered = ofComponent("streams.buffered", "{event}", UpDown,
		"Events in the buffers of all streams.")
	StreamsOpened = ofComponent("streams.opened", connections, Counter,
		"Streams that were opened.")
	StreamsSent = ofComponent("streams.sent", "{event}", Counter,
		"Events written to streams.")
	StreamsDropped = ofComponent("streams.dropped", "{event}", Counter,
		"Events that streams did not get.")
	StreamsReplayed = ofComponent("streams.replayed", "{event}", Counter,
		"Events sent again because of a Last-Event-ID.")
	StreamsEnded = ofComponent("streams.ended", connections, Counter,
		"Streams that ended, by reason.", "reason")
	StreamsRefused = ofComponent("streams.refused", "{request}", Counter,
		"Requests for a stream that were refused, by reason.", "reason")
)

// table has every metric once.
//
//nolint:gochecknoglobals // a constant table
var table = [...]*Metric{
	Count, IdleMax, IdleMin, Max, Pending, Timeouts, CreateTime, WaitTime, UseTime,
	Acquired, Refused, Waits, WaitSum, Dialing, Dials, DialErrors, LastDialError, Closed, Generations, Leaks,
	Reclaimed, Reused, Unread, OldestHold, Down, Paused, SweepLate,
	FleetDemand, FleetLimit, FleetConnections, FleetWarnings, FleetAsked,
	Members, MemberOpen, MemberInUse, MemberDown, MemberPrimary, MemberInRotation, MemberLag, MemberScore, MemberIsolated, MemberState,
	CheckStatus, CheckAge, CheckMaxAge, CheckDuration, CheckRuns, CheckFailedRuns, CheckFailures, CheckHung,
	GroupStatus, HeartbeatAge, HeartbeatMaxAge,
	Phase, ComponentState, ComponentStart, ComponentStop, ComponentRestarts, Unreadable, Expiry,
	ServerInFlight, ServerStreams, ServerConnections, ServerHijacked, ServerRequests, ServerRefused,
	StreamsOpen, StreamsBuffered, StreamsOpened, StreamsSent, StreamsDropped, StreamsReplayed, StreamsEnded, StreamsRefused,
}

func conventional(name, unit string, t Type, help string, labels ...string) *Metric {
	return describe("db.client.connection."+name, unit, t, help, append([]string{LabelPool}, labels...))
}

func metric(name, unit string, t Type, help string, labels ...string) *Metric {
	return describe("poolkeeper."+name, unit, t, help, labels)
}

func ofPool(name, unit string, t Type, help string, labels ...string) *Metric {
	return metric("pool."+name, unit, t, help, append([]string{LabelPool}, labels...)...)
}

func ofFleet(name, unit string, t Type, help string) *Metric {
	return metric("fleet."+name, unit, t, help, LabelPool)
}

func ofMember(name, unit string, t Type, help string, labels ...string) *Metric {
	return metric("member."+name, unit, t, help, append([]string{LabelPool, LabelMember}, labels...)...)
}

func ofCheck(name, unit string, t Type, help string, labels ...string) *Metric {
	return metric("check."+name, unit, t, help, append([]string{LabelCheck}, labels...)...)
}

func ofComponent(name, unit string, t Type, help string, labels ...string) *Metric {
	return metric(name, unit, t, help, append([]string{LabelComponent}, labels...)...)
}

// describe names a metric in Prometheus as OpenTelemetry's exporters do. Dots become underscores. The
// unit is a suffix, unless it is 1 or a word in braces. A counter ends in _total.
// https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
func describe(otel, unit string, t Type, help string, labels []string) *Metric {
	name := strings.ReplaceAll(otel, ".", "_")
	if unit == seconds {
		name += "_seconds"
	}
	if t == Counter {
		name += "_total"
	}
	return &Metric{Name: name, OTel: otel, Unit: unit, Help: help, Type: t, Labels: labels}
}
