package replica_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

func TestMariaDBPlaceReachesAnotherIfItDoesInEveryDomain(t *testing.T) {
	for _, c := range []struct {
		here, there string
		want        bool
	}{
		{"", "", true},
		{"0-1-5", "", true},
		{"", "0-1-5", false},
		{"0-1-5", "0-2-5", true}, // the server id does not matter
		{"0-1-5", "0-1-6", false},
		{"0-1-18446744073709551615", "0-1-6", true},
		{"0-1-9,7-3-1", "0-1-5,7-3-2", false},
		{" 0-1-9,7-3-2, 8-1-1", "0-1-5,7-3-2", true},
		{"0-1-9,0-2-12", "0-1-11", true}, // gtid_binlog_state names each server; so may others
	} {
		if got, err := replica.MariaDBReaches(c.here, c.there); got != c.want || err != nil {
			t.Errorf("%q reaches %q: %v, %v", c.here, c.there, got, err)
		}
	}
	for _, bad := range []string{"0-1", "x-1-1", "0-1-x", "0-1-1-1", "4294967296-1-1", "0-1--1"} {
		if _, err := replica.MariaDBReaches(bad, ""); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestMySQLPlaceReachesAnotherIfItHasEveryTransaction(t *testing.T) {
	const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, c := range []struct {
		here, there string
		want        bool
	}{
		{"", "", true},
		{a + ":1-5", "", true},
		{"", a + ":1", false},
		{a + ":1-5", a + ":1-5", true},
		{strings.ToUpper(a) + ":1-5", a + ":5", true},
		{a + ":1-3:5", a + ":1-5", false},
		{a + ":1-3:4-5", a + ":1-5", true},
		{a + ":1-5", b + ":1", false},
		{a + ":1-5,\n" + b + ":1-2", b + ":1:2, " + a + ":2-4", true},
		{a + ":1-5:tag:1-2", a + ":tag:2", true},
		{a + ":1-5:tag:1-2", a + ":other:2", false},
		{a + ":tag:1-2:more:7", a + ":1", false},
		{a + ":1-18446744073709551615:5", a + ":6", true},
	} {
		if got, err := replica.MySQLReaches(c.here, c.there); got != c.want || err != nil {
			t.Errorf("%q reaches %q: %v, %v", c.here, c.there, got, err)
		}
	}
	for _, bad := range []string{a, a + ":", a + ":tag", a + ":5-1", a + ":1-x", a + ":1x", "0-1-7"} {
		if _, err := replica.MySQLReaches(bad, ""); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// The naive twin has each transaction by itself.
func TestMySQLPlaceAgreesWithCountingTransactionsOneByOne(t *testing.T) {
	rapid.Check(t, mysqlPlaceAgrees)
}

func FuzzMySQLPlaceAgreesWithCountingTransactionsOneByOne(f *testing.F) {
	fuzzing.Property(f, mysqlPlaceAgrees)
}

func mysqlPlaceAgrees(t *rapid.T) {
	draw := func(name string) (text string, all map[string]bool) {
		all = map[string]bool{}
		var parts []string
		for range rapid.IntRange(0, 6).Draw(t, name) {
			source := rapid.SampledFrom([]string{"aa", "bb", "bb:tag"}).Draw(t, "source")
			from := rapid.IntRange(1, 20).Draw(t, "from")
			to := from + rapid.IntRange(0, 6).Draw(t, "length")
			parts = append(parts, fmt.Sprintf("%s:%d-%d", source, from, to))
			for n := from; n <= to; n++ {
				all[fmt.Sprint(source, n)] = true
			}
		}
		return strings.Join(parts, ",\n"), all
	}
	here, mine := draw("here")
	there, others := draw("there")
	want := true
	for one := range others {
		want = want && mine[one]
	}
	got, err := replica.MySQLReaches(here, there)
	if err != nil || got != want {
		t.Fatalf("%q reaches %q: %v, %v; want %v", here, there, got, err, want)
	}
}
