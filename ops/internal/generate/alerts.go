package generate

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// inPool and inComponent name the subject of an alert.
const (
	inPool      = "{{ $labels.job }}, pool {{ $labels." + measure.LabelPool + " }}"
	inComponent = "{{ $labels.job }}, component {{ $labels." + measure.LabelComponent + " }}"
	inCheck     = "{{ $labels.job }}, check {{ $labels." + measure.LabelCheck + " }}"
)

// Alerts returns the alerting rules, in the order of docs/operations.md.
func Alerts() []Alert {
	all := outages()
	all = append(all, shortages()...)
	all = append(all, troubles()...)
	all = append(all, streamAlerts()...)
	return append(all, burns()...)
}

// outages returns the alerts on what callers notice now.
func outages() []Alert {
	return []Alert{
		{
			Name: "PoolkeeperPoolDown", Severity: critical, For: time.Minute,
			Expr:        byPool("sum", of(measure.Down)) + " > 0",
			Summary:     inPool + ": the server is down",
			Description: "The server does not answer, so callers fail at once. Instances: {{ $value }}.",
			Test:        Case{Series: []Series{pool(measure.Down, "0 0 0 0 0 1x20")}, Quiet: 5, Fires: 8, Value: "1"},
		},
		{
			Name: "PoolkeeperCheckFails", Severity: critical, For: 5 * time.Minute,
			Expr:        by("sum", of(measure.CheckStatus, is("status", "fail")), job, measure.LabelCheck) + " > 0",
			Summary:     inCheck + ": the check fails",
			Description: "/readyz?verbose shows the error and advice. Instances: {{ $value }}.",
			Test: Case{
				Series: []Series{{of(measure.CheckStatus, is(measure.LabelCheck, "orders"), is("status", "fail")), "0 0 1x20"}},
				Quiet:  5, Fires: 10, Value: "1", Labels: map[string]string{measure.LabelCheck: "orders"},
			},
		},
		{
			Name: "PoolkeeperVerdictStale", Severity: warning, For: 2 * time.Minute,
			Expr:        of(measure.CheckAge) + " > " + of(measure.CheckMaxAge),
			Summary:     inCheck + ": the last result is stale",
			Description: "The last result is {{ $value | humanizeDuration }} old: a run hangs, or checks do not run.",
			Test: Case{
				Series: []Series{
					{of(measure.CheckAge, is(measure.LabelCheck, "orders")), "5 5 5 60+60x20"},
					{of(measure.CheckMaxAge, is(measure.LabelCheck, "orders")), "32x30"},
				},
				Quiet: 3, Fires: 7, Value: "5m 0s", Labels: map[string]string{measure.LabelCheck: "orders"},
			},
		},
		{
			Name: "PoolkeeperComponentDead", Severity: critical,
			Expr: by("sum", of(measure.ComponentState, among("state", "dead", "failed", "abandoned")),
				job, measure.LabelComponent, "state") + " > 0",
			Summary:     inComponent + ": {{ $labels.state }}",
			Description: "The log names the error. Instances: {{ $value }}.",
			Test: Case{
				Series: []Series{{of(measure.ComponentState, is(measure.LabelComponent, "worker"), is("state", "dead")), "0 0 0 1x20"}},
				Quiet:  2, Fires: 4, Value: "1", Labels: map[string]string{measure.LabelComponent: "worker", "state": "dead"},
			},
		},
		{
			Name: "PoolkeeperComponentNotUp", Severity: warning, For: 5 * time.Minute,
			Expr: by("sum", of(measure.ComponentState, among("state", "added", "starting")),
				job, measure.LabelComponent) + " > 0",
			Summary:     inComponent + ": the component does not come up",
			Description: "The component has been starting for 5 minutes. Instances: {{ $value }}.",
			Test: Case{
				Series: []Series{{of(measure.ComponentState, is(measure.LabelComponent, "worker"), is("state", "starting")), "0 1x20"}},
				Quiet:  4, Fires: 8, Value: "1", Labels: map[string]string{measure.LabelComponent: "worker"},
			},
		},
	}
}

// shortages returns the alerts on what callers will notice soon.
func shortages() []Alert {
	return []Alert{
		{
			Name: "PoolkeeperPoolNearLimit", Severity: warning, For: 10 * time.Minute,
			Expr:        byPool("max", recordUse) + " > 0.9",
			Summary:     inPool + ": nearly all connections are in use",
			Description: "{{ $value | humanizePercentage }} of the connections are in use on the busiest instance.",
			Test: Case{
				Series: []Series{
					{of(measure.Count, is(measure.LabelPool, "orders"), is(measure.LabelPoolState, "used")), "10x5 19x30"},
					pool(measure.Max, "20x40"),
				},
				Quiet: 12, Fires: 20, Value: "95%",
			},
		},
		{
			Name: "PoolkeeperCallersWait", Severity: warning, For: 5 * time.Minute,
			Expr:        byPool("sum", of(measure.Pending)) + " > 0",
			Summary:     inPool + ": callers wait for a connection",
			Description: "{{ $value }} callers wait now, and some have waited at every scrape of 5 minutes.",
			Test:        Case{Series: []Series{pool(measure.Pending, "0 3 0 3x20")}, Quiet: 7, Fires: 10, Value: "3"},
		},
		{
			Name: "PoolkeeperAcquireSlow", Severity: warning, For: 10 * time.Minute,
			Expr:        recordAcquireP99 + " > 0.5",
			Summary:     inPool + ": acquiring a connection is slow",
			Description: "1 of 100 acquisitions takes longer than {{ $value | humanizeDuration }}.",
			Test: Case{
				Series: []Series{
					{bucketOf(measure.WaitTime, is(measure.LabelPool, "orders"), `le="0.5"`), "0+90x30"},
					{bucketOf(measure.WaitTime, is(measure.LabelPool, "orders"), `le="1"`), "0+100x30"},
					{bucketOf(measure.WaitTime, is(measure.LabelPool, "orders"), `le="+Inf"`), "0+100x30"},
				},
				Quiet: 9, Fires: 20, Value: "950ms",
			},
		},
		{
			Name: "PoolkeeperFleetOverLimit", Severity: warning, For: 10 * time.Minute,
			Expr:        byPool("max", of(measure.FleetDemand)) + " > " + byPool("min", of(measure.FleetLimit)),
			Summary:     inPool + ": the fleet may open more connections than the server grants",
			Description: "In a rolling update all instances may open {{ $value }} connections, above the limit.",
			Test: Case{
				Series: []Series{pool(measure.FleetDemand, "90x5 120x30"), pool(measure.FleetLimit, "97x40")},
				Quiet:  12, Fires: 20, Value: "120",
			},
		},
		{
			Name: "PoolkeeperExpirySoon", Severity: warning, For: 10 * time.Minute,
			Expr: by("min", of(measure.Expiry), job, measure.LabelComponent, "kind", "subject") +
				" - time() < 14 * 86400",
			Summary:     inComponent + ": {{ $labels.kind }} {{ $labels.subject }} expires soon",
			Description: "Time left: {{ $value | humanizeDuration }}. A negative time means that it has expired.",
			Test: Case{
				Series: []Series{{of(measure.Expiry, is(measure.LabelComponent, "orders"), is("kind", "ca"), is("subject", "root")), "864000x30"}},
				Quiet:  8, Fires: 20, Value: "9d 23h 40m 0s",
				Labels: map[string]string{measure.LabelComponent: "orders", "kind": "ca", "subject": "root"},
			},
		},
	}
}

// troubles returns the alerts on what a pool has noticed.
func troubles() []Alert {
	return []Alert{
		{
			Name: "PoolkeeperLeak", Severity: warning,
			Expr:        byPool("sum", "increase("+of(measure.Leaks)+"[15m])") + " > 0",
			Summary:     inPool + ": a connection leaked",
			Description: "A connection is held for longer than LeakThreshold. The log line with kind=leak names the place.",
			Test:        Case{Series: []Series{pool(measure.Leaks, "0x5 1x40")}, Quiet: 5, Fires: 8},
		},
		{
			Name: "PoolkeeperBodiesUnread", Severity: warning, For: 10 * time.Minute,
			Expr: byPool("sum", "rate("+of(measure.Unread)+"[5m])") + " > 0.1 * " +
				byPool("sum", "rate("+of(measure.Acquired)+"[5m])") + " > 0",
			Summary:     inPool + ": responses are closed before their end",
			Description: "More than 1 of 10 requests costs a connection: {{ $value | humanize }} a second.",
			Test: Case{
				Series: []Series{pool(measure.Acquired, "0+600x40"), pool(measure.Unread, "0x5 0+120x40")},
				Quiet:  10, Fires: 30, Value: "2",
			},
		},
		{
			Name: "PoolkeeperEvictorStuck", Severity: warning, For: 5 * time.Minute,
			Expr:        byPool("max", of(measure.SweepLate)) + " > 60",
			Summary:     inPool + ": eviction is overdue",
			Description: "A sweep of idle connections has been due for {{ $value | humanizeDuration }}.",
			Test:        Case{Series: []Series{pool(measure.SweepLate, "0x5 90x30")}, Quiet: 8, Fires: 15, Value: "1m 30s"},
		},
		{
			Name: "PoolkeeperFailover", Severity: info,
			Expr:        byPool("sum", "increase("+of(measure.Closed, is("reason", poolkeeper.EvictedFailover))+"[10m])") + " > 0",
			Summary:     inPool + ": connections were replaced after a failover",
			Description: "The server or its role has changed. The pool closes the connections dialled before.",
			Test: Case{
				Series: []Series{{of(measure.Closed, is(measure.LabelPool, "orders"), is("reason", poolkeeper.EvictedFailover)), "0x5 4x30"}},
				Quiet:  5, Fires: 8,
			},
		},
		{
			Name: "PoolkeeperReplicaLag", Severity: warning, For: 5 * time.Minute,
			Expr:        by("max", of(measure.MemberLag), job, measure.LabelPool, measure.LabelMember) + " > 30",
			Summary:     inPool + ", member {{ $labels.member }}: the replica is behind its primary",
			Description: "The lag is {{ $value | humanizeDuration }}.",
			Test: Case{
				Series: []Series{member(measure.MemberLag, "1x5 45x30")}, Quiet: 8, Fires: 15, Value: "45s",
				Labels: map[string]string{measure.LabelMember: "replica-1"},
			},
		},
		{
			Name: "PoolkeeperMemberOut", Severity: warning, For: 10 * time.Minute,
			Expr:        by("min", of(measure.MemberInRotation), job, measure.LabelPool, measure.LabelMember) + " < 1",
			Summary:     inPool + ", member {{ $labels.member }}: the member serves no callers",
			Description: "On at least one instance the member has been out of rotation for 10 minutes.",
			Test: Case{
				Series: []Series{member(measure.MemberInRotation, "1x5 0x30")}, Quiet: 12, Fires: 20,
				Labels: map[string]string{measure.LabelMember: "replica-1"},
			},
		},
	}
}

// streamAlerts returns the alerts on WebSockets and server-sent events.
func streamAlerts() []Alert {
	return []Alert{
		{
			Name: "PoolkeeperStreamsRefused", Severity: warning, For: 5 * time.Minute,
			Expr: by("sum", "rate("+of(measure.StreamsRefused, is("reason", "max"))+"[5m])",
				job, measure.LabelComponent) + " > 0",
			Summary:     inComponent + ": streams are refused, because Max are open",
			Description: "{{ $value | humanize }} clients a second get 503.",
			Test: Case{
				Series: []Series{{of(measure.StreamsRefused, is(measure.LabelComponent, "live"), is("reason", "max")), "0x5 0+60x30"}},
				Quiet:  8, Fires: 20, Value: "1", Labels: map[string]string{measure.LabelComponent: "live"},
			},
		},
		{
			Name: "PoolkeeperStreamsSlow", Severity: warning, For: 10 * time.Minute,
			Expr: by("sum", "increase("+of(measure.StreamsEnded, among("reason", "slow", "timeout"))+"[10m])", job, measure.LabelComponent) +
				" > 0.01 * " + by("sum", of(measure.StreamsOpen), job, measure.LabelComponent) + " > 1",
			Summary:     inComponent + ": streams are closed, because their clients read too slowly",
			Description: "More than 1 of 100 clients was dropped in 10 minutes: {{ $value | humanize }}.",
			Test: Case{
				Series: []Series{
					{of(measure.StreamsEnded, is(measure.LabelComponent, "live"), is("reason", "slow")), "0x5 0+4x40"},
					{of(measure.StreamsOpen, is(measure.LabelComponent, "live"), is("kind", "sse")), "1000x50"},
				},
				Quiet: 10, Fires: 30, Value: "40", Labels: map[string]string{measure.LabelComponent: "live"},
			},
		},
	}
}

// burns returns the alerts on how fast the error budget is spent.
func burns() []Alert {
	failing := func(each string) []Series {
		return []Series{pool(measure.Acquired, "0+6000x400"), pool(measure.Refused, "0x400"), pool(measure.Timeouts, each)}
	}
	return []Alert{
		{
			Name: "PoolkeeperErrorBudgetBurnFast", Severity: critical, For: 2 * time.Minute,
			Expr:        burning(fastBurns),
			Summary:     inPool + ": acquisitions fail, and the error budget will be spent within days",
			Description: "{{ $value | humanizePercentage }} of the acquisitions fail; " + objective + " should succeed.",
			Test: Case{
				Series: failing("0x5 0+60x400"), Quiet: 5, Fires: 90, Value: "0.9901%",
			},
		},
		{
			Name: "PoolkeeperErrorBudgetBurnSlow", Severity: warning, For: time.Hour,
			Expr:        burning(slowBurns),
			Summary:     inPool + ": acquisitions fail, and the error budget will not last 30 days",
			Description: "{{ $value | humanizePercentage }} of the acquisitions fail; " + objective + " should succeed.",
			Test: Case{
				Series: failing("0+12x400"), Quiet: 30, Fires: 200, Value: "0.1996%",
			},
		},
	}
}

func pool(m *measure.Metric, values string) Series {
	return Series{of(m, is(measure.LabelPool, "orders")), values}
}

func member(m *measure.Metric, values string) Series {
	return Series{of(m, is(measure.LabelPool, "orders"), is(measure.LabelMember, "replica-1")), values}
}
