package measure_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/measure"
	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// key names a sample.
func key(s *measure.Sample) string {
	return s.Metric.Name + "|" + strings.Join(s.Labels(), "|")
}

// read returns all samples of a registry, and fails if two of them have the same name and labels.
func read(t *testing.T, reg *lifecycle.Registry) map[string]measure.Sample {
	t.Helper()
	all := map[string]measure.Sample{}
	for s := range measure.Of(reg).Read() {
		k := key(&s)
		if _, twice := all[k]; twice {
			t.Errorf("%s is there twice", k)
		}
		if (s.Histogram != nil) != (s.Metric.Type == measure.Histogram) {
			t.Errorf("%s is no %s", k, s.Metric.Type)
		}
		all[k] = s
	}
	return all
}

func TestEveryMetricHasASample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []*measure.Metric
		for _, s := range read(t, measuretest.Everything(t)) {
			seen = append(seen, s.Metric)
		}
		table := measure.Table()
		for _, m := range table {
			if !slices.Contains(seen, m) && m != measure.ComponentStop {
				t.Errorf("%s has no sample", m.Name)
			}
		}
		for _, m := range seen {
			if !slices.Contains(table, m) {
				t.Errorf("%s is not in the table", m.Name)
			}
		}
	})
}

func TestSamplesAreWhatTheComponentsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := measuretest.Everything(t)
		all := read(t, reg)
		now := float64(time.Now().UnixMilli()) / 1000
		for k, want := range map[string]float64{
			"db_client_connection_count|orders|idle":                   6,
			"db_client_connection_count|orders|used":                   12,
			"db_client_connection_max|orders":                          60,
			"db_client_connection_timeouts_total|orders":               33,
			"poolkeeper_pool_wait_seconds_total|orders":                4.5,
			"poolkeeper_pool_closed_total|orders|idle":                 45,
			"poolkeeper_pool_closed_total|orders|dead":                 0,
			"poolkeeper_pool_closed_total|orders|other":                51,
			"poolkeeper_pool_down|orders":                              1,
			"poolkeeper_pool_down|cache":                               0,
			"poolkeeper_pool_last_dial_error_timestamp_seconds|orders": now - 120,
			"poolkeeper_fleet_demand|orders":                           270,
			"poolkeeper_fleet_warnings|orders":                         1,
			"poolkeeper_pool_members|orders":                           3,
			"poolkeeper_member_score|orders|replica-2":                 60,
			"poolkeeper_member_isolated|orders|replica-2":              1,
			"poolkeeper_member_isolated|orders|primary":                0,
			"poolkeeper_member_state|orders|replica-2|isolated":        1,
			"poolkeeper_member_in_use|orders|primary":                  12,
			"poolkeeper_member_lag_seconds|orders|replica-1":           7,
			"poolkeeper_member_down|orders|replica-1":                  1,
			"poolkeeper_member_state|orders|replica-1|lagging":         1,
			"poolkeeper_check_status|failing|fail":                     1,
			"poolkeeper_check_status|failing|pass":                     0,
			"poolkeeper_check_status|warned|warn":                      1,
			"poolkeeper_group_status|ready|fail":                       1,
			"poolkeeper_heartbeat_age_seconds|loop":                    61.01,
			"poolkeeper_registry_phase|up":                             1,
			"poolkeeper_registry_phase|closed":                         0,
			"poolkeeper_component_state|api|up":                        1,
			"poolkeeper_component_state|api|dead":                      0,
			"poolkeeper_component_start_duration_seconds|api":          0.005,
			"poolkeeper_component_unreadable|broken":                   1,
			"poolkeeper_component_unreadable|api":                      0,
			"poolkeeper_expiry_timestamp_seconds|orders|ca|root":       1893542400,
			"poolkeeper_expiry_timestamp_seconds|orders|credentials|":  1893715200,
			"poolkeeper_server_requests_in_flight|api":                 7,
			"poolkeeper_server_requests_total|api":                     4711,
			"db_client_connection_max|" + measuretest.Hostile:          1,
		} {
			if s, ok := all[k]; !ok || s.Value != want {
				t.Errorf("%s is %v (%v), want %v", k, s.Value, ok, want)
			}
		}
		for _, unknown := range []string{
			"db_client_connection_max|cache", "db_client_connection_use_time_seconds|cache", "poolkeeper_fleet_demand|cache",
			"poolkeeper_pool_last_dial_error_timestamp_seconds|cache", "poolkeeper_expiry_timestamp_seconds|orders|server-certificate|db",
			"poolkeeper_member_score|orders|primary", "poolkeeper_pool_down|broken", "poolkeeper_member_lag_seconds|orders|primary",
		} {
			if s, ok := all[unknown]; ok {
				t.Errorf("%s is %v, though it is not known", unknown, s.Value)
			}
		}
		if h := all["db_client_connection_wait_time_seconds|orders"].Histogram; h == nil || h.Count != 3000 || h.Buckets[1].Count != 6 {
			t.Errorf("wait time: %+v", h)
		}
		runs := all["poolkeeper_check_runs_total|failing"].Value
		if failed := all["poolkeeper_check_failed_runs_total|failing"].Value; runs == 0 || failed != runs {
			t.Errorf("%v of %v runs failed", failed, runs)
		}
		if age, most := all["poolkeeper_check_age_seconds|good"].Value, all["poolkeeper_check_max_age_seconds|good"].Value; age >= most || most == 0 {
			t.Errorf("a result is %v s old, of at most %v", age, most)
		}
	})
}

func TestSamplesShowNoSecret(t *testing.T) { // INV-12
	synctest.Test(t, func(t *testing.T) {
		for k := range read(t, measuretest.Everything(t)) {
			if strings.Contains(k, measuretest.Secret) {
				t.Errorf("%s shows the secret", k)
			}
		}
	})
}

func TestLabelsAreBounded(t *testing.T) {
	reg := measuretest.New()
	var many poolkeeper.Stats
	many.Evicted = map[string]uint64{}
	var dates []poolkeeper.Expiry
	for i := range 1000 {
		many.Members = append(many.Members, poolkeeper.MemberStats{Name: fmt.Sprintf("10.0.0.%d:6379", i), State: "ready"})
		many.Evicted[fmt.Sprint(i)] = 1
		dates = append(dates, poolkeeper.Expiry{Kind: poolkeeper.ExpiryCA, Subject: fmt.Sprint(i), NotAfter: time.Now()})
	}
	many.Members = append(many.Members,
		poolkeeper.MemberStats{Name: strings.Repeat("ü", 1000)}, poolkeeper.MemberStats{Name: "10.0.0.1:6379"},
		poolkeeper.MemberStats{Name: "\xff\xfe"})
	reg.Add("cluster", &measuretest.Pool{Numbers: func() poolkeeper.Stats { return many }, Dates: dates})
	series := map[*measure.Metric]int{}
	for _, s := range read(t, reg) {
		series[s.Metric]++
		for _, l := range s.Labels() {
			if len(l) > 210 || strings.ToValidUTF8(l, "") != l {
				t.Errorf("%s has the label %q", s.Metric.Name, l)
			}
		}
	}
	for m, most := range map[*measure.Metric]int{measure.MemberOpen: 100, measure.Closed: 7, measure.Expiry: 20, measure.MemberState: 100} {
		if series[m] != most {
			t.Errorf("%s has %d series, want %d", m.Name, series[m], most)
		}
	}
}

// A second component of the same name is a fault that Start reports; a scrape before it must not fail.
func TestADuplicateNameIsReadOnce(t *testing.T) {
	reg := measuretest.New()
	for range 2 {
		reg.Add("twice", &measuretest.Server{})
	}
	if _, ok := read(t, reg)["poolkeeper_component_state|twice|added"]; !ok {
		t.Error("it has no state")
	}
}

// A scrape tells of all others, and piles up no goroutines.
func TestAComponentThatDoesNotReturnIsLeftOutUntilItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := measuretest.New()
		var calls atomic.Int32
		release := make(chan struct{})
		reg.Add("hangs", &measuretest.Pool{Numbers: func() poolkeeper.Stats {
			if calls.Add(1) == 1 {
				<-release
			}
			return poolkeeper.Stats{Max: 3}
		}})
		reg.Add("exits", &measuretest.Pool{Numbers: func() poolkeeper.Stats { runtime.Goexit(); return poolkeeper.Stats{} }})
		reg.Add("well", &measuretest.Pool{Numbers: func() poolkeeper.Stats { return poolkeeper.Stats{Max: 4} }})
		source := measure.Of(reg)
		unreadable := func() (names []string) {
			for s := range source.Read() {
				switch {
				case s.Metric == measure.Unreadable && s.Value == 1:
					names = append(names, s.Labels()[0])
				case s.Metric == measure.Max && s.Labels()[0] == "well" && s.Value != 4:
					t.Errorf("well has the number %v", s.Value)
				}
			}
			return names
		}
		for range 3 {
			if got := fmt.Sprint(unreadable()); got != "[hangs exits]" {
				t.Errorf("unreadable: %s", got)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("called %d times while it hung", n)
		}
		close(release)
		synctest.Wait()
		if got := fmt.Sprint(unreadable()); got != "[exits]" {
			t.Errorf("unreadable: %s, after it has returned", got)
		}
	})
}

func TestAConsumerMayStopAtAnySample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := measuretest.Everything(t)
		n := len(read(t, reg))
		for stop := 1; stop <= n; stop += 7 {
			got := 0
			for range measure.Of(reg).Read() {
				if got++; got == stop {
					break
				}
			}
			if got != stop {
				t.Fatalf("%d samples, want %d", got, stop)
			}
		}
	})
}
