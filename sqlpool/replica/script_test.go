package replica_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// scripted is a primary and a replica that are never dialled: each poll of them is told by the
// test.
type scripted interface {
	Record(ctx context.Context, member int, told replica.Told) error
	Members() []replica.Member
	Abort() error
}

// scriptedPolls feeds polls to a component.
type scriptedPolls struct {
	scripted

	t *testing.T
}

func newScript(t *testing.T, mysql bool) scriptedPolls {
	t.Helper()
	var s scripted
	var err error
	if mysql {
		one := sqlpool.MySQLConfig{URL: "mysql://127.0.0.1/orders", Logger: quiet()}
		s, err = replica.NewMySQL(replica.MySQLConfig{
			MaxLag: 10 * time.Second, Logger: quiet(), Primary: one, Replicas: []sqlpool.MySQLConfig{one},
		})
	} else {
		one := sqlpool.PostgresConfig{URL: "postgres://127.0.0.1/orders", Logger: quiet()}
		s, err = replica.NewPostgres(replica.PostgresConfig{
			MaxLag: 10 * time.Second, Logger: quiet(), Primary: one, Replicas: []sqlpool.PostgresConfig{one},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Abort() })
	return scriptedPolls{s, t}
}

func (s scriptedPolls) primary(told replica.Told) {
	s.t.Helper()
	if err := s.Record(s.t.Context(), 0, told); err != nil {
		s.t.Fatal(err)
	}
}

// replica returns what is known of the replica after a poll of it.
func (s scriptedPolls) replica(told replica.Told) replica.Member {
	s.t.Helper()
	told.Standby = true
	if err := s.Record(s.t.Context(), 1, told); err != nil {
		s.t.Fatal(err)
	}
	return s.Members()[1]
}

// kindsOfPlaces returns places of every kind of server, each as a Told with nothing but that: one,
// and one that is further.
func kindsOfPlaces() map[string][2]replica.Told {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	return map[string][2]replica.Told{
		"PostgreSQL": {{LSN: 100}, {LSN: 200}},
		"MariaDB":    {{MariaDB: "0-1-100"}, {MariaDB: "0-1-200"}},
		"MySQL":      {{MySQL: uuid + ":1-100"}, {MySQL: uuid + ":1-200"}},
	}
}

// with adds to a place when it was told, and what a replica says of itself.
func with(place replica.Told, at float64, behind time.Duration) replica.Told {
	place.At, place.Behind = after(at), behind
	return place
}

// A replica's own word is the age of its last transaction: minutes, if the primary is idle.
func TestLagIsNeverTheReplicasOwnWordOnceThePrimaryIsKnown(t *testing.T) {
	for name, place := range kindsOfPlaces() {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, name != "PostgreSQL")
			near, far := place[0], place[1]
			s.primary(replica.Told{At: noon, Err: errors.New("refused")})
			if m := s.replica(with(near, 0, 3*time.Second)); !m.HasLag || m.Lag != 3*time.Second {
				t.Errorf("%+v, want the replica's own word: nothing is known of the primary", m)
			}
			s.primary(with(far, 1, 0))
			for _, own := range []time.Duration{0, 1500 * time.Millisecond, 65 * time.Second, -1} {
				m := s.replica(with(near, 1, own))
				if m.HasLag || m.State != replica.StateLagging || !strings.Contains(fmt.Sprint(m.Err), "the primary was 0s ago") {
					t.Errorf("its own word is %s: %+v, want an unknown lag", own, m)
				}
			}
			s.primary(with(far, 8, 0))
			if m := s.replica(with(near, 8, 72*time.Second)); m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "the primary was 7s ago") {
				t.Errorf("%+v, want that it is at least 7 s behind", m)
			}
			for _, at := range []float64{9, 70} {
				s.primary(with(far, at, 0))
				m := s.replica(with(far, at, time.Hour))
				if !m.HasLag || m.Lag != 0 || m.State != replica.StateReady {
					t.Errorf("%+v, want no lag of an idle primary", m)
				}
			}
			none := with(replica.Told{CaughtUp: true}, 71, time.Second)
			if m := s.replica(none); m.HasLag || !strings.Contains(fmt.Sprint(m.Err), "no position") {
				t.Errorf("%+v, want an unknown lag of a replica that tells no position", m)
			}
		})
	}
}

func TestPositionsOfAPrimaryThatTellsThemNoMoreAreForgotten(t *testing.T) {
	s := newScript(t, true)
	place := replica.Told{MariaDB: "0-1-100"}
	s.primary(with(place, 0, 0))
	if m := s.replica(with(place, 0, time.Minute)); !m.HasLag || m.Lag != 0 {
		t.Errorf("%+v", m)
	}
	s.primary(replica.Told{At: after(1), Gap: errors.New("log_bin is off")})
	if m := s.replica(with(place, 1, 4*time.Second)); !m.HasLag || m.Lag != 4*time.Second {
		t.Errorf("%+v, want the replica's own word: what was known of the primary gets old", m)
	}
	s.primary(with(place, 2, 0))
	if m := s.replica(with(place, 2, 4*time.Second)); !m.HasLag || m.Lag != 0 {
		t.Errorf("%+v, want the position to count again", m)
	}
}

// A standby is a moment behind a busy primary. Its lag is known without waiting for the next round.
func TestReplicaThatIsAMomentBehindAtTheStartIsPolledAgainSoon(t *testing.T) {
	pollQuery := regexp.MustCompile(`^select pg_is_in_recovery\(\)`)
	answer := func(row func() []any) sqlpooltest.Answer {
		return sqlpooltest.Answer{
			Columns: []string{"a", "b", "c", "d"}, Func: func([]any) ([][]any, error) { return [][]any{row()}, nil },
		}
	}
	x := newTrio(t, func(cfg *replica.PostgresConfig) { cfg.PollInterval, cfg.MaxLag = time.Hour, 2*time.Hour })
	x.servers[0].AnswerMatching(pollQuery, answer(func() []any { return []any{"f", "200", "-1", "f"} }))
	for i, polls := range []int64{2, 4} { // as many until the standby is level
		var n atomic.Int64
		x.servers[i+1].AnswerMatching(pollQuery, answer(func() []any {
			if n.Add(1) < polls {
				return []any{"t", "190", "0", "f"}
			}
			return []any{"t", "200", "65", "t"}
		}))
	}
	if err := x.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := x.Members()[1]; m.State != replica.StateReady || !m.HasLag || m.Lag != 0 {
		t.Errorf("%+v, want the second poll to count", m)
	}
	eventually(t, "the other one is known too", func() bool {
		m := x.Members()[2]
		return m.State == replica.StateReady && m.HasLag && m.Lag == 0
	})
}
