package redispool

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
)

// The keys must be the addresses that go-redis itself makes of an answer.
func TestNodesHaveTheAddressThatGoRedisGivesThem(t *testing.T) {
	for _, c := range []struct{ addr, origin, want string }{
		{"10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.1:7000"},
		{"127.0.0.1:7000", "10.0.0.2:7001", "10.0.0.2:7000"},
		{"127.0.0.1:7000", "redis.example:7001", "redis.example:7000"},
		{"127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7000"},
		{"127.0.0.1:7000", "LocalHost:7001", "127.0.0.1:7000"},
		{"127.0.0.1:7000", "host.docker.internal:7001", "127.0.0.1:7000"},
		{"[::1]:7000", "[2001:db8::2]:7001", "[2001:db8::2]:7000"},
		{"[::1]:7000", "[::1]:7001", "[::1]:7000"},
		{"[2001:db8::1]:7000", "10.0.0.2:7001", "[2001:db8::1]:7000"},
		{"redis-0.example:7000", "10.0.0.2:7001", "redis-0.example:7000"},
		{"localhost:7000", "10.0.0.2:7001", "localhost:7000"},
		{":7000", "10.0.0.2:7001", ":7000"},
		{"?:7000", "10.0.0.2:7001", "?:7000"},
		{"10.0.0.1:0", "10.0.0.2:6380", "10.0.0.1:6380"},
		{"10.0.0.1:0", "no address", "10.0.0.1:0"},
		{"no address", "10.0.0.2:6380", "no address"},
	} {
		if got := reachable(c.addr, c.origin); got != c.want {
			t.Errorf("%s as said by %s is %s, want %s", c.addr, c.origin, got, c.want)
		}
	}
}

// slotsOf reads "0-99:a,b,c 100-199:d,e" as an answer to CLUSTER SLOTS.
func slotsOf(text string) (out []redis.ClusterSlot) {
	for i, part := range strings.Fields(text) {
		_, names, _ := strings.Cut(part, ":")
		s := redis.ClusterSlot{Start: 100 * i, End: 100*i + 99}
		for name := range strings.SplitSeq(names, ",") {
			if name != "" {
				s.Nodes = append(s.Nodes, redis.ClusterNode{ID: name, Addr: name + ":1"})
			}
		}
		out = append(out, s)
	}
	return out
}

// namesOf is the reverse. A range that no slot is in is called "-".
func namesOf(slots []redis.ClusterSlot) string {
	var out []string
	for _, s := range slots {
		var names []string
		for _, n := range s.Nodes {
			names = append(names, n.ID)
		}
		where := "slots:"
		if s.Start >= slotsOfCluster {
			where = "-:"
		}
		out = append(out, where+strings.Join(names, ","))
	}
	return strings.Join(out, " ")
}

// judged is an isolator without a pool whose time the test tells, a second at each step.
type judged struct {
	isolator

	now     time.Time
	changes []string
}

func newJudged(primaries bool) *judged {
	j := &judged{isolator: isolator{primaries: primaries, cfg: poolkeeper.Isolation{MinScore: 75, TrialShare: 0.25}}, now: time.Now()}
	j.down = map[string]bool{}
	return j
}

// run takes samples of all nodes. Those that are named in slow take a hundred times as long.
func (j *judged) run(seconds int, slow ...string) {
	for range seconds {
		j.now = j.now.Add(time.Second)
		for key, s := range j.of {
			took := time.Millisecond
			if slices.Contains(slow, strings.TrimSuffix(key, ":1")) {
				took *= 100
			}
			s.scores.Observe(key, j.now, isolation.Sample{Latency: took, Requests: 20})
		}
		for _, s := range j.shards {
			for _, c := range s.scores.Judge(j.now, j.membersLocked(s)) {
				j.changes = append(j.changes, strings.TrimSuffix(c.Key, ":1")+" "+string(c.To))
			}
		}
	}
}

func (j *judged) routes(t *testing.T, answer, want string) {
	t.Helper()
	if got := namesOf(j.route(slotsOf(answer), "seed:1")); got != want {
		t.Errorf("%s becomes %s, want %s", answer, got, want)
	}
}

func TestIsolatedReplicaGetsNoSlots(t *testing.T) { // INV-16
	const answer = ":a,b,c :d,e :a,b,c :f :"
	j := newJudged(false)
	j.routes(t, answer, "slots:a,b,c slots:d,e slots:a,b,c slots:f slots:")
	j.run(20, "b", "e") // e is the only replica of its shard
	j.routes(t, answer, "slots:a,c slots:d,e slots:a,c slots:f slots: -:a,b")
	if is, out := j.standingOf("b:1"); !out || is.State != isolation.Isolated || is.Why == "" {
		t.Errorf("%+v", is)
	}
	j.down["c:1"] = true // b stands in, and go-redis knows that c fails
	j.routes(t, answer, "slots:a,b,c slots:d,e slots:a,b,c slots:f slots:")
	j.down["b:1"] = true
	j.routes(t, answer, "slots:a,c slots:d,e slots:a,c slots:f slots: -:a,b")
	clear(j.down)
	for range 31 { // 30 s, or less at random
		if is, _ := j.standingOf("b:1"); is.State == isolation.Isolated {
			j.run(1)
		}
	}
	j.routes(t, answer, "slots:a,c,c,c,b slots:d,e slots:a,c,c,c,b slots:f slots:")
	j.run(10)
	j.routes(t, answer, "slots:a,b,c slots:d,e slots:a,b,c slots:f slots:")
	if want := []string{"b isolated", "b trial", "b serving"}; !slices.Equal(j.changes, want) {
		t.Errorf("%q", j.changes)
	}
}

func (j *judged) standingOf(key string) (isolation.Standing, bool) {
	j.on.Store(true)
	return j.standing(key)
}

func TestReplicasThatAreAllSlowAllServe(t *testing.T) { // INV-16
	j := newJudged(false)
	j.cfg.SlowLatency = 10 * time.Millisecond
	j.routes(t, ":a,b,c", "slots:a,b,c")
	j.run(60, "b", "c")
	j.routes(t, ":a,b,c", "slots:a,b,c")
	if len(j.changes) > 0 {
		t.Errorf("%q", j.changes)
	}
}

// Where go-redis reads from primaries too, a primary alone may serve a shard's reads.
func TestPrimaryThatIsReadFromReplacesItsReplicas(t *testing.T) { // INV-16
	j := newJudged(true)
	j.routes(t, ":a,b :c,d", "slots:a,b slots:c,d")
	j.run(20, "b", "c")
	j.routes(t, ":a,b :c,d", "slots:a slots:c,d -:a,b")
	j.down["a:1"] = true
	j.routes(t, ":a,b :c,d", "slots:a,b slots:c,d")
	if want := []string{"b isolated"}; !slices.Equal(j.changes, want) {
		t.Errorf("%q", j.changes)
	}
}

// Writes go to a replica that was promoted, isolated or not. The other keeps its score.
func TestIsolatedReplicaThatIsPromotedGetsWrites(t *testing.T) {
	for _, primaries := range []bool{false, true} {
		j := newJudged(primaries)
		j.routes(t, ":a,b,c,d", "slots:a,b,c,d")
		j.run(20, "b")
		j.routes(t, ":b,a,c,d", "slots:b,a,c,d")
		j.run(1, "b")
		j.routes(t, ":b,a,c,d", "slots:b,a,c,d")
		if is, out := j.standingOf("b:1"); out || is.State != isolation.Serving {
			t.Errorf("%+v", is)
		}
		if want := []string{"b isolated", "b serving"}; !slices.Equal(j.changes, want) {
			t.Errorf("%q", j.changes)
		}
	}
}

// A Cluster does not list a replica that it takes for failed, and lists it again later.
func TestIsolationOutlastsAReplicasAbsence(t *testing.T) {
	j := newJudged(false)
	j.routes(t, ":a,b,c", "slots:a,b,c")
	j.run(20, "b")
	j.routes(t, ":a,c", "slots:a,c")
	j.run(3)
	j.routes(t, ":a,c", "slots:a,c")
	j.routes(t, ":a,b,c", "slots:a,c -:a,b")
}

func TestSlotsOfOtherShardsDoNotMixScores(t *testing.T) {
	j := newJudged(false)
	j.routes(t, ":a,b,c :d,e,f", "slots:a,b,c slots:d,e,f")
	j.run(20, "b")
	j.routes(t, ":d,e,f :a,c,b :d,e,f", "slots:d,e,f slots:a,c slots:d,e,f -:a,b")
	j.routes(t, ":d,e,f :a,c", "slots:d,e,f slots:a,c") // b was removed for good
	if len(j.shards) != 2 {
		t.Errorf("%d shards", len(j.shards))
	}
}
