package statuspage

import "time"

// Version is the number of the shape of [Document]. It changes only if a field is renamed, removed
// or given another meaning; fields may be added.
const Version = 1

// Document is the content of status.json: one moment of a service. Names and texts in it come from
// other code, with recognisable secrets removed. Durations are in seconds.
type Document struct {
	Version int       `json:"version"` // Version
	At      time.Time `json:"at"`
	// Details reports whether the reader may see more than Overall. If not, all other fields are
	// empty.
	Details bool    `json:"details"`
	Overall Overall `json:"overall"`
	Process Process `json:"process,omitzero"`
	// Interval is the time between two samples, in seconds.
	Interval float64 `json:"interval_seconds,omitempty"`
	// Attention is what an operator should look at, the worst first.
	Attention  []Notice      `json:"attention,omitempty"`
	Components []Component   `json:"components,omitempty"` // as added
	Pools      []Pool        `json:"pools,omitempty"`      // as added
	Servers    []Server      `json:"servers,omitempty"`    // as added
	Streams    []Streams     `json:"streams,omitempty"`    // as added
	Checks     []Check       `json:"checks,omitempty"`     // by name
	Heartbeats []Heartbeat   `json:"heartbeats,omitempty"` // by name
	Holders    []HolderGroup `json:"holders,omitempty"`    // the oldest first
	Events     []Event       `json:"events,omitempty"`     // the newest first
	Start      *Report       `json:"start,omitempty"`      // nil before its end
	Shutdown   *Report       `json:"shutdown,omitempty"`   // nil before its end
}

// Overall is the state of the whole service. Every reader may see it, but for Reason and Advice.
type Overall struct {
	Phase    string    `json:"phase"` // of the registry: new, starting, up, closing or closed
	Since    time.Time `json:"since"` // when Phase began
	Ready    string    `json:"ready"` // pass, warn or fail
	Live     string    `json:"live"`  // pass or fail
	Draining bool      `json:"draining,omitempty"`
	Reason   string    `json:"reason,omitempty"` // why Ready is not pass: the root cause first
	Advice   string    `json:"advice,omitempty"` // what to look at first
}

// Process says which instance of the service this is.
type Process struct {
	Name    string    `json:"name"`              // Config.Name, or the name of the executable
	Version string    `json:"version,omitempty"` // of the main module, as built
	Go      string    `json:"go"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"` // when New was called
}

// Severities of a [Notice].
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)

// Notice is something to look at.
type Notice struct {
	Severity  string `json:"severity"`  // one of the Severity constants
	Component string `json:"component"` // or the name of a check or a heartbeat
	Text      string `json:"text"`
	Advice    string `json:"advice,omitempty"`
}

// Component is a component of the registry.
type Component struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`             // its Go type
	State     string    `json:"state"`            // as of lifecycle.State, or failed if its start failed
	Health    string    `json:"health,omitempty"` // the worst of its checks; empty: it has none
	Since     time.Time `json:"since"`            // when State began
	DependsOn []string  `json:"depends_on,omitempty"`
	Ops       bool      `json:"ops,omitempty"`
	Restarts  int       `json:"restarts,omitempty"`
	Error     string    `json:"error,omitempty"` // the last failure
	Settings  []Setting `json:"settings,omitempty"`
	Expiries  []Expiry  `json:"expiries,omitempty"` // the first to expire first
	// Unanswered says which parts are missing, because the component's own code panicked, or does
	// not return.
	Unanswered []string `json:"unanswered,omitempty"`
}

// Setting is one effective setting. Keys of groups are joined by dots.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Expiry is a certificate or a credential that expires.
type Expiry struct {
	Kind     string    `json:"kind"` // one of poolkeeper's Expiry constants
	Subject  string    `json:"subject,omitempty"`
	NotAfter time.Time `json:"not_after"`
}

// Pool is one moment of a pool, and a summary of its last minute.
type Pool struct {
	PoolFigures

	Name string `json:"name"`
	// LeakThreshold is how long a hold may last, from the settings; 0: not known, or off.
	LeakThreshold float64 `json:"leak_threshold_seconds,omitempty"`

	Recent  Recent   `json:"recent"`
	Fleet   *Fleet   `json:"fleet,omitempty"`   // nil: the server was never asked
	Members []Member `json:"members,omitempty"` // of a replicated pool or a Cluster
}

// PoolFigures are the numbers of poolkeeper.Stats.
type PoolFigures struct {
	Max     int `json:"max"` // 0: no limit is known
	MinIdle int `json:"min_idle"`
	Open    int `json:"open"`
	InUse   int `json:"in_use"`
	Idle    int `json:"idle"`
	Dialing int `json:"dialing"`
	Waiting int `json:"waiting"`

	OldestHold float64   `json:"oldest_hold_seconds,omitempty"`
	Paused     bool      `json:"paused,omitempty"`
	DownSince  time.Time `json:"down_since,omitzero"`
	Generation uint64    `json:"generation"`
	SweepLate  float64   `json:"sweep_late_seconds,omitempty"`

	WaitCount       uint64            `json:"wait_count"`
	WaitTotal       float64           `json:"wait_seconds"`
	Dials           uint64            `json:"dials"`
	DialErrors      uint64            `json:"dial_errors"`
	Acquired        uint64            `json:"acquired"` // 0 where it is not known
	AcquireTimeouts uint64            `json:"acquire_timeouts"`
	Refused         uint64            `json:"refused"`
	Leaks           uint64            `json:"leaks"`
	Reclaimed       uint64            `json:"reclaimed"`
	Evicted         map[string]uint64 `json:"evicted,omitempty"` // by reason

	LastDialError     string    `json:"last_dial_error,omitempty"`
	LastDialErrorTime time.Time `json:"last_dial_error_time,omitzero"`
}

// Recent sums up the acquisitions of the last minute. Quantiles are estimates from a histogram of
// the acquisitions that the pool measures: all on SQL, and on Redis those that had to wait.
type Recent struct {
	Over       float64 `json:"over_seconds"` // less than a minute after a start
	Acquired   uint64  `json:"acquired"`     // 0 where it is not known
	Measured   uint64  `json:"measured"`     // acquisitions that the quantiles are of
	AcquireP50 float64 `json:"acquire_p50_seconds,omitempty"`
	AcquireP99 float64 `json:"acquire_p99_seconds,omitempty"`
	MaxInUse   int     `json:"max_in_use"`
	MaxWaiting int     `json:"max_waiting"`
	DialErrors uint64  `json:"dial_errors"`
	Timeouts   uint64  `json:"acquire_timeouts"`
	Refused    uint64  `json:"refused"`
}

// Fleet compares the demand of all instances with the limit of the server.
type Fleet struct {
	Asked    time.Time `json:"asked"`
	Demand   int       `json:"demand"`
	Limit    int       `json:"limit"` // 0: not known
	OnServer int       `json:"on_server"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Member is one server of a replicated pool, or one node of a Cluster.
type Member struct {
	PoolFigures

	Name       string     `json:"name"`
	Primary    bool       `json:"primary,omitempty"`
	State      string     `json:"state,omitempty"`
	InRotation bool       `json:"in_rotation"`
	Lag        *float64   `json:"lag_seconds,omitempty"` // nil: not known
	Score      *int       `json:"score,omitempty"`       // how well it serves, 0 to 100; nil: not known
	Isolated   bool       `json:"isolated,omitempty"`    // it serves worse than the others
	Why        string     `json:"why,omitempty"`         // why it is isolated
	NextTrial  *time.Time `json:"next_trial,omitempty"`  // when its next trial begins; nil: none is due
	Fleet      *Fleet     `json:"fleet,omitempty"`       // nil: the server was never asked
}

// Server is one moment of a server that answers requests.
type Server struct {
	Name        string `json:"name"`
	InFlight    int    `json:"in_flight"`
	Streams     int    `json:"streams"`
	Connections int    `json:"connections"`
	Hijacked    int    `json:"hijacked"`
	Requests    uint64 `json:"requests"`
	Refused     uint64 `json:"refused"`
	// Rate is the number of requests a second over the last minute.
	Rate float64 `json:"requests_per_second"`
}

// Streams counts the long-lived connections of one component. Its fields are those of
// [poolkeeper.StreamStats].
type Streams struct {
	Name      string            `json:"name"`
	WebSocket int               `json:"websocket"`
	SSE       int               `json:"sse"`
	Buffered  int               `json:"buffered"`
	Opened    uint64            `json:"opened"`
	Sent      uint64            `json:"sent"`
	Dropped   uint64            `json:"dropped"`
	Replayed  uint64            `json:"replayed"`
	Ended     map[string]uint64 `json:"ended,omitempty"`   // by reason, those that have occurred
	Refused   map[string]uint64 `json:"refused,omitempty"` // the same
}

// Check is the verdict on a health check.
type Check struct {
	Name       string    `json:"name"`
	Status     string    `json:"status"` // pass, warn, fail or unknown
	Impact     string    `json:"impact"` // critical or degrading
	Groups     []string  `json:"groups,omitempty"`
	Since      time.Time `json:"since"`
	LastResult time.Time `json:"last_result,omitzero"`
	Error      string    `json:"error,omitempty"`
	Kind       string    `json:"kind,omitempty"` // the class of Error, as of health.Kind
	Advice     string    `json:"advice,omitempty"`
	CausedBy   []string  `json:"caused_by,omitempty"`
	Failures   int       `json:"failures,omitempty"` // in a row
	Runs       uint64    `json:"runs"`
	FailedRuns uint64    `json:"failed_runs"`
	Duration   float64   `json:"duration_seconds"` // of the last run
	MaxAge     float64   `json:"max_age_seconds"`  // from which the last result no longer counts
	HungSince  time.Time `json:"hung_since,omitzero"`
}

// Heartbeat is the verdict on a loop of the service.
type Heartbeat struct {
	Name     string    `json:"name"`
	Status   string    `json:"status"`
	LastBeat time.Time `json:"last_beat"`
	MaxAge   float64   `json:"max_age_seconds"`
}

// HolderGroup is all holders of one pool that took their connections at the same place.
type HolderGroup struct {
	Pool   string    `json:"pool"`
	Kind   string    `json:"kind"` // one of poolkeeper's Kind constants
	Count  int       `json:"count"`
	Oldest time.Time `json:"oldest"` // when the first of them took its connection
	At     string    `json:"at"`     // "api.(*Handler).List (list.go:88)", or "unknown"
	Stack  string    `json:"stack,omitempty"`
}

// Event is something that happened to a component, a pool or a check.
type Event struct {
	Time      time.Time `json:"time"`
	Level     string    `json:"level"`               // DEBUG, INFO, WARN or ERROR
	Component string    `json:"component,omitempty"` // "orders/primary" for a server of a replicated pool
	Kind      string    `json:"kind"`                // of a pool's event, or the name of the type in lifecycle/event
	Text      string    `json:"text"`
	Error     string    `json:"error,omitempty"`
	Advice    string    `json:"advice,omitempty"`
	Skipped   int       `json:"skipped,omitempty"` // events of this kind left out before it
}

// Report is how a start or a shutdown went.
type Report struct {
	Began    time.Time `json:"began"`
	Took     float64   `json:"took_seconds"`
	Delay    float64   `json:"delay_seconds,omitempty"` // the part of Took that was DrainDelay
	Error    string    `json:"error,omitempty"`
	Critical []string  `json:"critical,omitempty"` // the components that Took was made of
	Steps    []Step    `json:"steps"`              // in the order in which they ended
}

// Step is the part of one component in a [Report].
type Step struct {
	Name    string    `json:"name"`
	Outcome string    `json:"outcome"`        // as of event.Outcome
	Began   time.Time `json:"began,omitzero"` // zero if its turn never came
	Took    float64   `json:"took_seconds"`
	Drain   float64   `json:"drain_seconds,omitempty"`
	Error   string    `json:"error,omitempty"`
}
