package suite_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ledger knows what became of each write, as far as the callers can know. Every write has an id of
// its own, and the server keeps count of each id. So a write that is lost shows, and one that is
// applied twice.
type ledger struct {
	next atomic.Int64

	mu      sync.Mutex // guards the following
	acked   []int64
	unknown []int64 // failed; the server may have applied it or not
}

// newLedger has ids that no other ledger has.
func newLedger(seed uint64) *ledger {
	l := &ledger{}
	l.next.Store(int64(seed%1000)<<52 | rand.Int64N(1<<20)<<32) //nolint:gosec // any number will do
	return l
}

func (l *ledger) writer(insert func(ctx context.Context, id int64) error) func(ctx context.Context, n int) error {
	return func(ctx context.Context, _ int) error {
		id := l.next.Add(1)
		err := insert(ctx, id)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil {
			l.acked = append(l.acked, id)
		} else {
			l.unknown = append(l.unknown, id)
		}
		return err
	}
}

// compare counts what the server lost, and what it applied twice.
func (l *ledger) compare(p *place, o *outcome) {
	p.Helper()
	if l == nil {
		return
	}
	var there map[int64]int
	p.do(p, func(ctx context.Context) (err error) { there, err = p.admin.applied(ctx); return err })
	l.mu.Lock()
	defer l.mu.Unlock()
	o.data = true
	sum := 0
	for _, id := range l.acked {
		sum += there[id]
		if there[id] == 0 {
			o.gone++
		}
		if there[id] > 1 {
			o.twice++
		}
	}
	for _, id := range l.unknown {
		sum += there[id]
		if there[id] > 1 {
			o.twice++
		}
	}
	if least, most := len(l.acked), len(l.acked)+len(l.unknown); o.twice == 0 && (sum < least || sum > most) {
		p.Errorf("the server has %d writes, of %d acknowledged and %d unknown", sum, least, most-least)
	}
}

// losses is the scenario for the data: the server is killed, sessions are ended, and connections are
// reset, while callers write.
//
// Redis writes each command to its file before it answers. PostgreSQL and MariaDB hand each commit
// to the kernel, and do not wait for the disk: what the kernel has outlives a killed process.
func losses() []scenario {
	return []scenario{{
		name: "killed, ended or reset 20 times", data: true,
		args: func(lib library) []string {
			switch {
			case strings.HasPrefix(lib.name, "Redis"):
				return []string{"--appendonly", "yes", "--appendfsync", "always"}
			case lib.name == "MariaDB":
				return []string{"--innodb-flush-log-at-trx-commit=2"}
			}
			return []string{"synchronous_commit=on"}
		},
		fault: func(p *place) {
			for n := range max(p.times(20), 3) {
				switch n % 3 {
				case 0:
					p.crash(0)
				case 1:
					p.do(p, p.admin.endAll)
				case 2:
					p.proxy.ReplaceMachine()
				}
				sleep(time.Duration((0.2 + 0.4*p.chance.Float64()) * float64(time.Second)))
			}
		},
		check: checkData,
		worse: map[string]string{
			"applied twice": "go-redis sends a command again after a connection broke, if it has retries; raw does too",
		},
	}}
}

// checkData allows double writes to go-redis with retries alone: it sends a command again whose
// answer it has not seen.
func checkData(tb testing.TB, lib library, _ way, o *outcome) {
	tb.Helper()
	if o.gone > 0 {
		tb.Errorf("%d acknowledged writes are lost", o.gone)
	}
	if o.twice > 0 && !retries(lib) {
		tb.Errorf("%d writes are applied twice", o.twice)
	}
}

// retries reports whether the client library itself tries calls again.
func retries(lib library) bool {
	return strings.HasPrefix(lib.name, "Redis") && !strings.Contains(lib.name, "no retries")
}
