// Package nearest finds the name that a caller may have meant, for errors.
package nearest

import (
	"iter"
	"strings"
)

// Name returns the name most like the given one, or "" if none is like it. It ignores case. Among
// equals the first wins.
func Name(name string, among iter.Seq[string]) string {
	best, limit := "", len([]rune(name))/2+1
	for n := range among {
		if d := distance(strings.ToLower(name), strings.ToLower(n), limit); d < limit {
			best, limit = n, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b, or some number not below limit.
func distance(a, b string, limit int) int {
	from, to := []rune(a), []rune(b)
	if diff := len(from) - len(to); diff >= limit || -diff >= limit {
		return limit
	}
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range to {
			cost := diagonal
			if x != y {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(to)]
}
