package suite_test

import (
	"context"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// failovers are faults of topologies. The server is back when another one has taken over.
func failovers() []scenario {
	return []scenario{
		sentinelKilled(), sentinelPlanned(),
		nodeSilent(), slotsMoved(), nodeRemoved(),
		primaryKilled(), primaryFrozen(),
		bouncerKilled(), behindBouncerKilled(),
	}
}

func (p *place) nodes() *redisNodes {
	p.Helper()
	a, ok := p.first.admin.(*redisNodes)
	if !ok {
		p.Fatalf("%s has one server", p.lib.name)
	}
	return a
}

// promoted waits until a node is a primary.
func (p *place) promoted(node int) {
	p.Helper()
	testkit.Eventually(p, "the replica is the primary", func() bool {
		role, err := p.nodes().admins[node].c.Do(p.Context(), "role").Slice()
		return err == nil && len(role) > 0 && role[0] == "master"
	})
}

// switched waits until the replica is the primary, and all sentinels say so.
func (p *place) switched() {
	p.Helper()
	p.promoted(1)
	for _, addr := range p.topology {
		s := adminAt(addr, "")
		testkit.Eventually(p, "each sentinel names the new primary", func() bool {
			at, err := s.c.Do(p.Context(), "sentinel", "get-master-addr-by-name", shop).StringSlice()
			return err == nil && len(at) == 2 && at[1] == p.nodes().servers[1].Port()
		})
		s.close()
	}
}

func sentinelKilled() scenario {
	return scenario{
		name: "primary killed, a replica is promoted", on: sentinel,
		fault: func(p *place) { p.Kill(p); p.switched() },
	}
}

func sentinelPlanned() scenario {
	return scenario{
		name: "planned failover", on: sentinel,
		fault: func(p *place) {
			s := adminAt(p.topology[0], "")
			defer s.close()
			testkit.Eventually(p, "the failover begins", func() bool {
				return s.c.Do(p.Context(), "sentinel", "failover", shop).Err() == nil
			})
			p.switched()
		},
	}
}

// nodeSilent freezes a primary. Its replica takes its place.
func nodeSilent() scenario {
	return scenario{
		name: "node silent, its replica is promoted", on: cluster,
		fault:  func(p *place) { p.Freeze(p); p.promoted(clusterPrimaries) },
		settle: func(p *place) { p.Thaw(p) },
	}
}

func slotsMoved() scenario {
	return scenario{
		name: "all slots of a node moved", on: cluster,
		fault: func(p *place) { p.do(p, p.nodes().moveSlots) },
	}
}

// nodeRemoved takes a node out, as operators do: without its slots, it is forgotten and stopped.
func nodeRemoved() scenario {
	return scenario{
		name: "node removed", on: cluster,
		fault: func(p *place) {
			p.do(p, p.nodes().moveSlots)
			p.do(p, p.nodes().forget)
			p.Stop(p)
		},
	}
}

// promote makes the standby the primary. The name leads there.
func (p *place) promote() {
	p.Helper()
	standby := p.second
	p.do(p, func(ctx context.Context) error {
		a, ok := standby.admin.(*sqlAdmin)
		if !ok {
			p.Fatal("no standby")
		}
		_, err := a.db.ExecContext(ctx, "select pg_promote()") // it waits
		return err
	})
	p.proxy.Point(standby.Addr())
	p.backend = standby
}

func primaryKilled() scenario {
	return scenario{
		name: "primary killed, the standby is promoted", on: replicated, spare: true,
		fault: func(p *place) {
			p.proxy.Refuse(p, true)
			p.Kill(p)
			p.promote()
			p.proxy.Refuse(p, false)
		},
	}
}

func primaryFrozen() scenario {
	return scenario{
		name: "primary frozen, the standby is promoted", on: replicated, spare: true,
		fault: func(p *place) {
			p.Freeze(p)
			sleep(p.span(2 * time.Second)) // until an operator is sure
			p.promote()
		},
		// pgx, below database/sql, asks a frozen server to cancel, in goroutines of its own that end
		// after 15 s.
		settle: func(p *place) { p.first.Thaw(p) },
	}
}

func bouncerKilled() scenario {
	return scenario{
		name: "pgbouncer killed, back after 2 s", on: bouncer,
		fault: func(p *place) { p.crash(p.span(2 * time.Second)) },
	}
}

func behindBouncerKilled() scenario {
	return scenario{
		name: "the server behind pgbouncer killed, back after 2 s", on: bouncer,
		fault: func(p *place) {
			a, ok := p.admin.(*bouncerAdmin)
			if !ok {
				p.Fatal("no pgbouncer")
			}
			a.server.Kill(p)
			sleep(p.span(2 * time.Second))
			a.server.Restart(p)
		},
	}
}
