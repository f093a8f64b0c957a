package replica_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/test/sqltest"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// trioInMemory makes a trio in a bubble, on servers without ports. They are a primary and two
// standbys of it.
func trioInMemory(t *testing.T) *trio {
	t.Helper()
	x := &trio{cfg: replica.PostgresConfig{Name: "orders", Logger: quiet()}}
	for i := range 3 {
		s := sqlpooltest.ServePostgresInMemory(t)
		x.servers = append(x.servers, s)
		c := sqlpool.PostgresConfig{URL: s.URL(), KeepAlive: poolkeeper.Off, Start: poolkeeper.StartDegraded, Logger: quiet()}
		c.Configure = func(c *pgxpool.Config) error {
			c.ConnConfig.DialFunc = s.Dial
			return nil
		}
		if i == 0 {
			x.cfg.Primary = c
			continue
		}
		s.Standby(0)
		x.cfg.Replicas = append(x.cfg.Replicas, c)
	}
	r, err := replica.NewPostgres(x.cfg)
	if err != nil {
		t.Fatal(err)
	}
	x.Postgres = r
	t.Cleanup(func() { _ = r.Abort() })
	return x
}

// namesJust wants an error to be about one member, and no other.
func namesJust(t *testing.T, err error, member int) {
	t.Helper()
	for i, name := range []string{"orders/primary", "orders/replica-1", "orders/replica-2"} {
		if strings.Contains(fmt.Sprint(err), name) != (i == member) {
			t.Errorf("%v; want it to name member %d alone", err, member)
		}
	}
}

func TestSilentReplicaCostsACheckBeforeStartNothingButItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := trioInMemory(t)
		x.servers[2].Hang()
		ctx := within(t, time.Second)
		err := x.Check(ctx)
		if ctx.Err() != nil {
			t.Error("the check lasts as long as its caller waits: its verdict comes too late")
		}
		namesJust(t, err, 2)
		if a, b, c := x.state(0), x.state(1), x.state(2); a != replica.StateReady || b != replica.StateReady || c != replica.StateUnknown {
			t.Errorf("%s, %s, %s; a caller that is in a hurry tells nothing of a server", a, b, c)
		}
		status, err := sqltest.Verdict(t, x.Check)
		if status != health.StatusWarn {
			t.Errorf("%s, want a warning", status)
		}
		namesJust(t, err, 2)
	})
}

func TestSilentPrimaryKeepsNoReplicaFromBeingKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := trioInMemory(t)
		x.servers[0].Hang()
		checked := make(chan error, 1)
		go func() { checked <- x.Check(t.Context()) }() // until PollTimeout
		synctest.Wait()
		if a, b := x.state(1), x.state(2); a != replica.StateReady || b != replica.StateReady || len(checked) > 0 {
			t.Errorf("while the primary is silent the replicas are %s and %s", a, b)
		}
		err := <-checked
		namesJust(t, err, 0)
		if x.state(0) != replica.StateDown {
			t.Errorf("the primary is %s after PollTimeout", x.state(0))
		}
	})
}

func TestLimitsLeaveOutASilentServerAndNameIt(t *testing.T) {
	for name, bound := range map[string]time.Duration{"the caller's time": time.Second, "PollTimeout": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := trioInMemory(t)
				x.servers[1].Hang()
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				defer cancel()
				began := time.Now()
				limits, err := x.Limits(ctx)
				if ctx.Err() != nil || time.Since(began) > replica.DefaultPollTimeout {
					t.Errorf("one silent server delays the answer by %s", time.Since(began))
				}
				namesJust(t, err, 1)
				if _, there := limits["replica-1"]; there || len(limits) != 2 || limits["replica-2"].MaxConnections != 100 {
					t.Errorf("%+v", limits)
				}
			})
		})
	}
}
