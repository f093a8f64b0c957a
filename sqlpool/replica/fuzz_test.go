package replica_test

import (
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// Whatever servers write as their positions: a position reaches itself and the beginning, reaching is
// transitive, and a position with more in it still reaches what it did.
func FuzzPositions(f *testing.F) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	f.Add(uuid+":1-5:7", uuid+":1-3", uuid+":2")
	f.Add(uuid+":18446744073709551615", uuid+":1-18446744073709551615", uuid+":tag:1-2:tag2:9")
	f.Add("0-1-7,1-1-3", "0-2-5", "1-1-3, 0-1-1")
	f.Add("a:1-5,a:6-18446744073709551615:3", "A:3:3:3", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for flavour, reaches := range map[string]func(string, string) (bool, error){
			"MySQL": replica.MySQLReaches, "MariaDB": replica.MariaDBReaches,
		} {
			is := func(here, there string) bool {
				yes, err := reaches(here, there)
				return yes && err == nil
			}
			valid := true
			for _, text := range []string{a, b, c} {
				_, err := reaches(text, "")
				valid = valid && err == nil
				if err != nil {
					continue
				}
				if !is(text, text) || !is(text, "") {
					t.Fatalf("%s: %q does not reach itself, or the beginning", flavour, text)
				}
			}
			if !valid {
				continue
			}
			if is(a, b) && is(b, c) && !is(a, c) {
				t.Fatalf("%s: %q reaches %q, and that %q, but the first does not reach the last", flavour, a, b, c)
			}
			both := strings.Join([]string{a, b}, ",")
			if !is(both, a) || !is(both, b) || is(a, b) && !is(a, both) {
				t.Fatalf("%s: %q and %q together do not reach each", flavour, a, b)
			}
		}
	})
}
