package redispool

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
)

// isolator keeps reads away from replicas of a Cluster that serve badly.
//
//	a node's commands ──▶ traffic ──judge, on a timer──▶ one isolation.Group for each shard
//	                                                        │ reads have changed
//	go-redis asks for the slots ◀────── ReloadState ◀───────┘
//	     └──▶ route changes the answer (topology)
type isolator struct {
	pool      *Pool
	primaries bool        // go-redis reads from primaries too
	on        atomic.Bool // replicas can be isolated

	mu     sync.Mutex // guards the following
	cfg    poolkeeper.Isolation
	shards []*shard
	of     map[string]*shard // by node
	down   map[string]bool   // nodes as of the last judge
	blind  int               // how often judge found nodes that answer, and no shards
	watch  *holders.Watch    // calls judge; nil: off
	runs   bool              // start was called, and stop was not
}

// shard is a primary with the replicas that can replace each other for reads.
type shard struct {
	primary  string
	replicas []string // without reads or with
	absent   []string // replicas that are isolated and that the Cluster does not list at present
	scores   *isolation.Group[string]
	reads    []string // replicas to read from, some repeated, as go-redis was told last
}

// blindLimit is how often judge may find nodes that answer, and no shards, before the pool reports it.
const blindLimit = 10

// errNoSlots is the reason why no replica can be isolated.
var errNoSlots = errors.New("the nodes answer, but the pool has not seen an answer to CLUSTER SLOTS: " +
	"they are no Cluster, or this version of go-redis asks in another way")

func newIsolator(p *Pool) *isolator { return &isolator{pool: p, primaries: p.target.readsPrimaries()} }

// configure puts a configuration in effect.
func (i *isolator) configure(c poolkeeper.Isolation) {
	if i == nil {
		return
	}
	i.mu.Lock()
	was := i.cfg
	i.cfg = c
	if was == c {
		i.mu.Unlock()
		return
	}
	for _, s := range i.shards {
		s.scores.Configure(c, isolation.SampleEvery(c))
	}
	i.on.Store(c.MinScore > 0)
	i.blind = 0
	old, runs := i.watch, i.runs
	i.watch = nil
	if i.on.Load() {
		i.watch = holders.Every(isolation.SampleEvery(c), i.judge)
	}
	if runs && i.watch != nil {
		i.watch.Start()
	}
	i.mu.Unlock()
	if old != nil {
		old.Stop()
	}
	if runs {
		i.reload() // also if it is off now: for the answer without changes
	}
}

// start begins to judge.
func (i *isolator) start() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.runs = true
	if i.watch != nil {
		i.watch.Start()
	}
}

// stop ends judging, and waits for one under way.
func (i *isolator) stop() {
	if i == nil {
		return
	}
	i.mu.Lock()
	i.runs = false
	watch := i.watch
	i.mu.Unlock()
	if watch != nil {
		watch.Stop()
	}
}

// reload has go-redis ask for the slots soon.
func (i *isolator) reload() {
	if c, ok := i.pool.client.(*redis.ClusterClient); ok {
		c.ReloadState(i.pool.life)
	}
}

// route returns the answer to CLUSTER SLOTS of the node at origin without the reads of isolated
// replicas.
func (i *isolator) route(slots []redis.ClusterSlot, origin string) []redis.ClusterSlot {
	t := topologyOf(slots, origin)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.regroupLocked(t.shards)
	for _, s := range i.shards {
		s.reads = i.readsLocked(s)
	}
	return t.answer()
}

// regroupLocked replaces the shards. A shard keeps the scores that it had before a failover, and so
// under another primary.
func (i *isolator) regroupLocked(next []*shard) {
	old := i.of
	i.shards, i.of = next, map[string]*shard{}
	for _, s := range next {
		for _, key := range append([]string{s.primary}, s.replicas...) {
			i.of[key] = s
		}
	}
	taken := map[*shard]bool{nil: true}
	for _, s := range next {
		for _, key := range append([]string{s.primary}, s.replicas...) {
			if was := old[key]; s.scores == nil && !taken[was] {
				taken[was] = true
				s.scores = was.scores
				s.absent = i.absentLocked(was)
			}
		}
		if s.scores == nil {
			s.scores = isolation.New[string](i.cfg, isolation.SampleEvery(i.cfg))
		}
	}
	for _, s := range next {
		for _, key := range s.absent {
			i.of[key] = s
		}
	}
}

// absentLocked returns the isolated replicas of a shard that the Cluster does not list any more. A
// node that fails from time to time is to stay isolated. At its next trial the pool forgets it.
func (i *isolator) absentLocked(was *shard) (absent []string) {
	for _, key := range append(slices.Clone(was.replicas), was.absent...) {
		is := was.scores.Standing(key)
		if i.of[key] == nil && is.State != isolation.Serving && time.Now().Before(is.NextTrial) {
			absent = append(absent, key)
		}
	}
	return absent
}

// readsLocked returns the replicas that a shard's reads go to now, some of them repeated.
func (i *isolator) readsLocked(s *shard) []string {
	fit := make([]string, 0, len(s.replicas)+1)
	if i.primaries && !i.down[s.primary] {
		fit = append(fit, s.primary)
	}
	for _, key := range s.replicas {
		if !i.down[key] {
			fit = append(fit, key)
		}
	}
	reads := slices.DeleteFunc(slices.Clone(s.scores.Rotation(fit)), func(key string) bool { return key == s.primary })
	for _, key := range s.replicas {
		if i.down[key] && s.scores.Standing(key).State == isolation.Serving { // go-redis tries others by itself
			reads = append(reads, key)
		}
	}
	if len(reads) == 0 && !i.primaries {
		return s.replicas
	}
	return reads
}

// judge takes a sample of each node and decides which replicas are isolated.
func (i *isolator) judge() {
	nodes, now := i.pool.allNodes(), time.Now()
	i.mu.Lock()
	i.down = make(map[string]bool, len(nodes))
	for _, n := range nodes { // of two with the same address, the first is about to be closed
		key := n.addr()
		i.down[key] = n.breaker.Down() != nil
		if s := i.of[key]; s != nil {
			n.traffic.sample(n, func(seen isolation.Sample) { s.scores.Observe(key, now, seen) })
		}
	}
	var told []func()
	changed := false
	for _, s := range i.shards {
		for _, c := range s.scores.Judge(now, i.membersLocked(s)) {
			told = append(told, func() { i.tell(c, c.Key == s.primary) })
		}
		changed = changed || !slices.Equal(s.reads, i.readsLocked(s))
	}
	blind := false
	if len(i.shards) == 0 && slices.ContainsFunc(nodes, func(n *node) bool { return n.traffic.answer.Sum() > 0 }) {
		i.blind++
		blind = i.blind == blindLimit
	}
	i.mu.Unlock()

	for _, tell := range told {
		tell()
	}
	if changed {
		i.reload()
	}
	if blind {
		i.pool.trouble("no replica can be isolated", errNoSlots)
	}
}

// membersLocked returns the servers of a shard that are compared with each other.
func (i *isolator) membersLocked(s *shard) []isolation.Member[string] {
	all := make([]isolation.Member[string], 0, len(s.replicas)+len(s.absent)+1)
	if i.primaries || s.scores.Standing(s.primary).State != isolation.Serving { // or it was promoted
		all = append(all, isolation.Member[string]{Key: s.primary, Fit: !i.down[s.primary], Pinned: true})
	}
	for _, key := range s.replicas {
		all = append(all, isolation.Member[string]{Key: key, Fit: !i.down[key]})
	}
	for _, key := range s.absent {
		all = append(all, isolation.Member[string]{Key: key})
	}
	return all
}

// tell reports a change.
func (i *isolator) tell(c isolation.Change[string], isPrimary bool) {
	e := c.Event()
	if isPrimary {
		e.Text = "this node was isolated, and is a primary now: it gets writes"
	}
	e.Attrs = append([]slog.Attr{slog.String("node", c.Key)}, e.Attrs...)
	i.pool.events.Emit(e)
}

// standing returns a node's score and state, and whether the node gets no reads.
func (i *isolator) standing(key string) (is isolation.Standing, out bool) {
	if i == nil || !i.on.Load() {
		return is, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.of[key]
	if s == nil {
		return is, false
	}
	return s.scores.Standing(key), key != s.primary && !slices.Contains(s.reads, key)
}
