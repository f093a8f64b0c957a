package statuspage

import "github.com/poolkeeper/poolkeeper"

// since returns the observations of now that before did not have yet. It returns a zero Histogram
// if the two do not belong together: after a restart, counters begin anew.
func since(now, before poolkeeper.Histogram) poolkeeper.Histogram {
	if len(before.Buckets) == 0 && before.Count == 0 {
		return now
	}
	if len(now.Buckets) != len(before.Buckets) || now.Count < before.Count {
		return poolkeeper.Histogram{}
	}
	out := poolkeeper.Histogram{Count: now.Count - before.Count, Sum: now.Sum - before.Sum}
	out.Buckets = make([]poolkeeper.Bucket, len(now.Buckets))
	for i, b := range now.Buckets {
		if b.UpperBound != before.Buckets[i].UpperBound || b.Count < before.Buckets[i].Count {
			return poolkeeper.Histogram{}
		}
		out.Buckets[i] = poolkeeper.Bucket{UpperBound: b.UpperBound, Count: b.Count - before.Buckets[i].Count}
	}
	return out
}

// quantile estimates the q-quantile of h in seconds, as Prometheus' histogram_quantile does: linear
// within a bucket, and the last bound for what is beyond. It returns 0 for an empty h.
func quantile(h poolkeeper.Histogram, q float64) float64 {
	rank, below, lower := q*float64(h.Count), 0.0, 0.0
	if h.Count == 0 {
		return 0
	}
	for _, b := range h.Buckets {
		if upTo := float64(b.Count); upTo >= rank {
			if upTo == below {
				return lower
			}
			return lower + (b.UpperBound-lower)*(rank-below)/(upTo-below)
		}
		below, lower = float64(b.Count), b.UpperBound
	}
	return lower
}
