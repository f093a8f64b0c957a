package isolation

import "math"

// Part is one part of a score.
type Part struct {
	Weight  int
	Badness float64 // 0: as good as can be; 1 and beyond, and NaN: as bad as can be
}

// Score returns 100 if no part is bad, and 0 if all are as bad as can be. It is linear in each part.
// Weights must not be negative; without any the score is 100.
func Score(parts ...Part) int {
	var got, all float64
	for _, p := range parts {
		got += float64(p.Weight) * (1 - clamp(p.Badness))
		all += float64(p.Weight)
	}
	if all == 0 {
		return 100
	}
	return int(math.Round(math.Round(1e11*got/all) / 1e9)) // rounded twice: 64.5 is 65 in any order of addition
}

// clamp limits x to 0 to 1. NaN becomes 1, the worst.
func clamp(x float64) float64 {
	if math.IsNaN(x) {
		return 1
	}
	return min(max(x, 0), 1)
}
