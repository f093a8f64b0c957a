package retry

import "time"

// seekerPause is the least time between two seekers.
const seekerPause = 100 * time.Millisecond

// BetweenSeekers is the time between two looks for the server that was promoted, by the time between
// two resets of a pool whose server refuses writes, which grows from 1 s on. It is 125 ms at 4 s,
// 2 s at 16 s and 7 s at 30 s: a name that moves does so within seconds, and a server that is
// read-only by intent is to see few of them.
func BetweenSeekers(resets time.Duration) time.Duration {
	return max(seekerPause, time.Duration(resets.Seconds()*float64(resets))/128)
}
