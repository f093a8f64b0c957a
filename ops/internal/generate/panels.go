package generate

import (
	"strconv"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// Row is a row of the dashboard.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is a chart or, with Stat, a number.
type Panel struct {
	Title, Help string
	Unit        string // Grafana's word for it
	Width       int    // of 24 columns
	Stat        bool
	Bad         float64 // from here on it is red; 0: nothing is
	Queries     []Query
}

// Query is one expression of a panel.
type Query struct {
	Expr, Legend string
}

// What the reader of the dashboard has chosen.
const (
	chosenJob      = job + `=~"$job"`
	chosenInstance = instance + `=~"$instance"`
	chosenPool     = measure.LabelPool + `=~"$pool"`
	perPool        = "{{" + measure.LabelPool + "}}"
	perComponent   = "{{" + measure.LabelComponent + "}}"
	perMember      = perPool + "/{{" + measure.LabelMember + "}}"
	window         = "$__rate_interval"
)

// Units.
const (
	unitShort   = "short"
	unitSeconds = "s"
	unitPercent = "percentunit"
	unitRate    = "ops"
)

const (
	third   = 8
	quarter = 6
	half    = 12
)

// Rows returns the dashboard.
func Rows() []Row {
	return []Row{overview(), poolRow(), connectionRow(), serverRow(), clientRow(), streamRow(), checkRow()}
}

// ofPools selects the chosen pools.
func ofPools(m *measure.Metric, matchers ...string) string {
	return of(m, append([]string{chosenJob, chosenInstance, chosenPool}, matchers...)...)
}

func ofTargets(m *measure.Metric, matchers ...string) string {
	return of(m, append([]string{chosenJob, chosenInstance}, matchers...)...)
}

func sumByPool(m *measure.Metric, legend string) Query {
	return Query{by("sum", ofPools(m), measure.LabelPool), legend}
}

func rateByPool(m *measure.Metric, legend string) Query {
	return Query{by("sum", rate(ofPools(m), window), measure.LabelPool), legend}
}

func quantileByPool(q string, m *measure.Metric) Query {
	buckets := bucketOf(m, chosenJob, chosenInstance, chosenPool)
	return Query{
		"histogram_quantile(" + q + ", " + by("sum", rate(buckets, window), measure.LabelPool, "le") + ")",
		perPool + " p" + q[2:],
	}
}

func overview() Row {
	stat := func(title, help, unit string, bad float64, expr string) Panel {
		return Panel{Title: title, Help: help, Unit: unit, Width: quarter, Stat: true, Bad: bad, Queries: []Query{{expr, ""}}}
	}
	spent := errorRatio("30d", chosenJob, chosenPool)
	return Row{"Service", []Panel{
		stat("Instances that are not ready", "", unitShort, 1,
			"sum("+ofTargets(measure.GroupStatus, is("group", "ready"), among("status", "fail", "unknown"))+")"),
		stat("Pools that are down", "Pools of an instance whose callers fail at once.", unitShort, 1,
			"sum("+ofPools(measure.Down)+")"),
		stat("Error budget spent", "Of "+objective+" of the acquisitions in 30 days, of the worst pool.", unitPercent, 1,
			"max((\n"+spent+"\n) / "+strconv.FormatFloat(budget, 'g', -1, 64)+")"),
		stat("Next expiry", "Until the first certificate or credential expires.", unitSeconds, 0,
			"min("+ofTargets(measure.Expiry)+") - time()"),
	}}
}

func poolRow() Row {
	return Row{"Pools", []Panel{
		{Title: "In use, of the limit", Help: "Of the busiest instance.", Unit: unitPercent, Width: third, Bad: 0.9, Queries: []Query{{
			by("max", "sum without ("+measure.LabelPoolState+") ("+ofPools(measure.Count, is(measure.LabelPoolState, "used"))+")\n/\n"+
				ofPools(measure.Max), measure.LabelPool), perPool,
		}}},
		{Title: "Connections", Unit: unitShort, Width: third, Queries: []Query{
			{by("sum", ofPools(measure.Count), measure.LabelPool, measure.LabelPoolState), perPool + " {{" + measure.LabelPoolState + "}}"},
			sumByPool(measure.Dialing, perPool+" being opened"),
			sumByPool(measure.Max, perPool+" limit"),
			sumByPool(measure.IdleMin, perPool+" kept idle"),
		}},
		{Title: "Callers that wait", Unit: unitShort, Width: third, Bad: 1, Queries: []Query{sumByPool(measure.Pending, perPool)}},
		{Title: "Time to get a connection", Unit: unitSeconds, Width: third, Queries: []Query{
			quantileByPool("0.99", measure.WaitTime), quantileByPool("0.50", measure.WaitTime),
		}},
		{Title: "Time that a connection is held", Help: "Redis does not measure it.", Unit: unitSeconds, Width: third, Queries: []Query{
			quantileByPool("0.99", measure.UseTime), quantileByPool("0.50", measure.UseTime),
		}},
		{Title: "Acquisitions", Unit: unitRate, Width: third, Queries: []Query{
			rateByPool(measure.Acquired, perPool+" got one"), rateByPool(measure.Waits, perPool+" waited"),
			rateByPool(measure.Timeouts, perPool+" gave up"), rateByPool(measure.Refused, perPool+" refused"),
		}},
	}}
}

func connectionRow() Row {
	closed := Query{
		by("sum", rate(ofPools(measure.Closed), window), measure.LabelPool, "reason"), perPool + " {{reason}}",
	}
	return Row{"Connections", []Panel{
		{Title: "Opened", Unit: unitRate, Width: third, Queries: []Query{
			rateByPool(measure.Dials, perPool+" opened"), rateByPool(measure.DialErrors, perPool+" failed"),
		}},
		{Title: "Time to open a connection", Unit: unitSeconds, Width: third, Queries: []Query{quantileByPool("0.99", measure.CreateTime)}},
		{Title: "Closed, by reason", Unit: unitRate, Width: third, Queries: []Query{closed}},
		{Title: "Oldest hold", Help: "Of all instances.", Unit: unitSeconds, Width: third, Queries: []Query{
			{by("max", ofPools(measure.OldestHold), measure.LabelPool), perPool},
		}},
		{Title: "Leaked and reclaimed", Help: "In an hour.", Unit: unitShort, Width: third, Bad: 1, Queries: []Query{
			{by("sum", "increase("+ofPools(measure.Leaks)+"[1h])", measure.LabelPool), perPool + " leaked"},
			{by("sum", "increase("+ofPools(measure.Reclaimed)+"[1h])", measure.LabelPool), perPool + " reclaimed"},
		}},
		{Title: "Replaced, paused, eviction overdue", Unit: unitShort, Width: third, Queries: []Query{
			{by("sum", "increase("+ofPools(measure.Generations)+"[1h])", measure.LabelPool), perPool + " replaced in an hour"},
			sumByPool(measure.Paused, perPool+" paused"),
			{by("max", ofPools(measure.SweepLate), measure.LabelPool), perPool + " eviction overdue, s"},
		}},
	}}
}

func serverRow() Row {
	return Row{"Servers of the pools", []Panel{
		{Title: "Demand of all instances, and the limit", Unit: unitShort, Width: third, Queries: []Query{
			{by("max", ofPools(measure.FleetDemand), measure.LabelPool), perPool + " demand"},
			{by("min", ofPools(measure.FleetLimit), measure.LabelPool), perPool + " limit"},
			{by("max", ofPools(measure.FleetConnections), measure.LabelPool), perPool + " on the server"},
		}},
		{Title: "Lag of replicas", Unit: unitSeconds, Width: third, Queries: []Query{
			{by("max", ofPools(measure.MemberLag), measure.LabelPool, measure.LabelMember), perMember},
		}},
		{Title: "Members in rotation", Help: "Instances that have the member in their rotation.", Unit: unitShort, Width: third, Queries: []Query{
			{by("sum", ofPools(measure.MemberInRotation), measure.LabelPool, measure.LabelMember), perMember},
		}},
		{Title: "Connections of members", Unit: unitShort, Width: half, Queries: []Query{
			{by("sum", ofPools(measure.MemberOpen), measure.LabelPool, measure.LabelMember), perMember + " open"},
			{by("sum", ofPools(measure.MemberInUse), measure.LabelPool, measure.LabelMember), perMember + " in use"},
		}},
		{Title: "Members that are down", Unit: unitShort, Width: half, Bad: 1, Queries: []Query{
			{by("sum", ofPools(measure.MemberDown), measure.LabelPool, measure.LabelMember), perMember},
		}},
		{Title: "Scores of members", Help: "The worst score that an instance gives the member; 100 is the best.", Unit: unitShort, Width: half, Queries: []Query{
			{by("min", ofPools(measure.MemberScore), measure.LabelPool, measure.LabelMember), perMember},
		}},
		{Title: "Members that are isolated", Help: "Instances for which the member serves worse than the others.", Unit: unitShort, Width: half, Bad: 1, Queries: []Query{
			{by("sum", ofPools(measure.MemberIsolated), measure.LabelPool, measure.LabelMember), perMember},
		}},
	}}
}

// clientRow is about HTTP clients. They are in the rows of the pools too.
func clientRow() Row {
	return Row{"HTTP clients", []Panel{
		{Title: "Requests on a connection used before", Help: "Of all requests of a client. Each of the others opens a connection.", Unit: unitPercent, Width: half, Queries: []Query{{
			"(" + by("sum", rate(ofPools(measure.Reused), window), measure.LabelPool) + "\n/\n" +
				by("sum", rate(ofPools(measure.Acquired), window), measure.LabelPool) + ")\nand " +
				by("sum", ofPools(measure.Reused), measure.LabelPool) + " > 0", perPool,
		}}},
		{Title: "Responses closed before their end", Help: "Each costs a connection.", Unit: unitRate, Width: half, Queries: []Query{
			{by("sum", rate(ofPools(measure.Unread), window), measure.LabelPool) + "\nand " +
				by("sum", ofPools(measure.Reused), measure.LabelPool) + " > 0", perPool},
		}},
	}}
}

// streamRow is about WebSockets and server-sent events.
func streamRow() Row {
	sum := func(m *measure.Metric, legend string, labels ...string) Query {
		return Query{by("sum", ofTargets(m), append([]string{measure.LabelComponent}, labels...)...), perComponent + legend}
	}
	rates := func(m *measure.Metric, legend string, labels ...string) Query {
		return Query{by("sum", rate(ofTargets(m), window), append([]string{measure.LabelComponent}, labels...)...), perComponent + legend}
	}
	return Row{"Streams", []Panel{
		{Title: "Open", Unit: unitShort, Width: third, Queries: []Query{sum(measure.StreamsOpen, " {{kind}}", "kind")}},
		{Title: "Opened and refused, by reason", Unit: unitRate, Width: third, Queries: []Query{
			rates(measure.StreamsOpened, " opened"), rates(measure.StreamsRefused, " refused: {{reason}}", "reason"),
		}},
		{Title: "Ended, by reason", Help: "drain: sent away at shutdown; slow and timeout: the reader was too slow; dead: no sign of life.", Unit: unitRate, Width: third, Queries: []Query{
			rates(measure.StreamsEnded, " {{reason}}", "reason"),
		}},
		{Title: "Events sent, dropped and sent again", Unit: unitRate, Width: half, Queries: []Query{
			rates(measure.StreamsSent, " sent"), rates(measure.StreamsDropped, " dropped"), rates(measure.StreamsReplayed, " sent again"),
		}},
		{Title: "Events that wait for each stream", Help: "How far the readers of a broadcast are behind, on average.", Unit: unitShort, Width: half, Queries: []Query{{
			by("sum", ofTargets(measure.StreamsBuffered), measure.LabelComponent) + "\n/\n" +
				by("sum", ofTargets(measure.StreamsOpen), measure.LabelComponent), perComponent,
		}}},
	}}
}

func checkRow() Row {
	return Row{"Checks, components, servers of the service", []Panel{
		{Title: "Verdicts", Help: "Instances with each verdict.", Unit: unitShort, Width: third, Queries: []Query{
			{by("sum", ofTargets(measure.CheckStatus), measure.LabelCheck, "status"), "{{check}} {{status}}"},
		}},
		{Title: "Last run of a check", Unit: unitSeconds, Width: third, Queries: []Query{
			{by("max", ofTargets(measure.CheckDuration), measure.LabelCheck), "{{check}}"},
		}},
		{Title: "Runs of checks that failed", Unit: unitPercent, Width: third, Queries: []Query{{
			by("sum", rate(ofTargets(measure.CheckFailedRuns), window), measure.LabelCheck) + "\n/\n" +
				by("sum", rate(ofTargets(measure.CheckRuns), window), measure.LabelCheck), "{{check}}",
		}}},
		{Title: "States of components", Help: "Instances with each state.", Unit: unitShort, Width: third, Queries: []Query{
			{by("sum", ofTargets(measure.ComponentState), measure.LabelComponent, "state") + " > 0", perComponent + " {{state}}"},
		}},
		{Title: "Starts and restarts of components", Unit: unitSeconds, Width: third, Queries: []Query{
			{by("max", ofTargets(measure.ComponentStart), measure.LabelComponent), perComponent + " took to start"},
			{by("sum", ofTargets(measure.ComponentRestarts), measure.LabelComponent), perComponent + " restarts"},
		}},
		{Title: "Requests", Unit: unitRate, Width: third, Queries: []Query{
			{by("sum", rate(ofTargets(measure.ServerRequests), window), measure.LabelComponent), perComponent},
			{by("sum", rate(ofTargets(measure.ServerRefused), window), measure.LabelComponent), perComponent + " refused"},
		}},
		{Title: "Requests and connections of servers", Unit: unitShort, Width: half, Queries: []Query{
			{by("sum", ofTargets(measure.ServerInFlight), measure.LabelComponent), perComponent + " in flight"},
			{by("sum", ofTargets(measure.ServerStreams), measure.LabelComponent), perComponent + " streams"},
			{by("sum", ofTargets(measure.ServerConnections), measure.LabelComponent), perComponent + " connections"},
			{by("sum", ofTargets(measure.ServerHijacked), measure.LabelComponent), perComponent + " hijacked"},
		}},
		{Title: "Until certificates and credentials expire", Unit: unitSeconds, Width: half, Queries: []Query{
			{by("min", ofTargets(measure.Expiry), measure.LabelComponent, "kind", "subject") + " - time()", perComponent + " {{kind}} {{subject}}"},
		}},
	}}
}
