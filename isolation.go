package poolkeeper

import "time"

// Isolation takes servers that serve worse than the others out of rotation. The servers are the
// replicas of package replica, the replicas of a Redis Cluster or the hosts of package httpclient.
// The zero value is off. With MinScore set, the zero of every other field means its default.
//
// Each server has a score from 0, the worst, to 100. The score has three parts: latency, errors and
// saturation. Each part is worth its weight, and falls linearly to nothing at its limit. With the
// default weights, a server at the limit of latency alone has a score of 60. At the limit of errors
// or of saturation alone it has 70. So a MinScore of 75 isolates for each of the three.
//
//	serving ──under MinScore for After──▶ isolated ──after Retry──▶ trial ──after After──▶ serving
//	                                         ▲                        │
//	                                         └──serves badly again────┘
//
// A server is isolated only while at least MinServing others serve, each with a score at least 10
// points better. So the last server is never isolated, nor are servers that are all equally bad. If
// the others can no longer serve, the best of the isolated servers stand in for them.
type Isolation struct {
	// MinScore is the score that a server needs to stay in rotation. Default: 0, off. Bounds: 0 to
	// 100.
	MinScore int

	// After is how long the score must stay under MinScore, and how long a trial lasts. The score is
	// that of the last half of After: a server that is bad for less than half of After stays in
	// rotation. Default: 10 s, or ten polls if those take longer. Bounds: not less than six polls.
	After time.Duration

	// Retry is the pause before the first trial. It doubles with each trial that fails, up to
	// MaxRetry. Each pause is up to a quarter shorter at random. Once a server has served for
	// MaxRetry, its next pause is Retry again. While all serving servers are under MinScore, every
	// pause is Retry. Default: 30 s.
	Retry time.Duration

	// MaxRetry is the longest pause between two trials. Default: 5 min, or Retry if that is longer.
	// Bounds: not less than Retry.
	MaxRetry time.Duration

	// TrialShare is the part of the traffic that a server gets during its trial. On a Redis Cluster
	// it is more beside a primary alone, and with RouteByLatency. Default: 0.05. Bounds: 0.01 to 1.
	TrialShare float64

	// MinServing is how many servers isolation leaves in rotation. Default: 1. Bounds: not negative.
	MinServing int

	// LatencyWeight, ErrorWeight and SaturationWeight weigh the three parts of the score. They need
	// not add up to 100. Default: 40, 30 and 30 if all are zero. Bounds: 0 to 1,000,000.
	LatencyWeight, ErrorWeight, SaturationWeight int

	// SlowFactor is the multiple of the others' median latency that costs all of LatencyWeight.
	// Default: 5. Bounds: 2 to 1,000.
	SlowFactor int

	// FastLatency is the least latency that servers are compared with. With the default, 3 ms beside
	// 0.5 ms is not slow. Default: 5 ms.
	FastLatency time.Duration

	// SlowLatency is the latency that costs all of LatencyWeight, whatever the others do. Default: 0,
	// servers are only compared with each other.
	SlowLatency time.Duration

	// MaxErrorRatio is the ratio of failed requests that costs all of ErrorWeight. Default: 0.5.
	// Bounds: 0 to 1.
	MaxErrorRatio float64
}
