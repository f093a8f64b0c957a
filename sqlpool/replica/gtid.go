package replica

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// mariadbGTIDs is a position in MariaDB's binary logs: the number of the last transaction of each
// replication domain. Within a domain they come in order.
type mariadbGTIDs map[uint32]uint64

func (g mariadbGTIDs) reaches(other position) bool {
	o, ok := other.(mariadbGTIDs)
	if !ok {
		return false
	}
	for domain, n := range o {
		if g[domain] < n {
			return false
		}
	}
	return true
}

// parseMariaDBGTIDs reads MariaDB's list of GTIDs: "domain-server-number,…"; "" is the beginning.
func parseMariaDBGTIDs(text string) (mariadbGTIDs, error) {
	out := mariadbGTIDs{}
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		if one == "" {
			continue
		}
		parts := strings.Split(one, "-")
		if len(parts) != 3 {
			return nil, fmt.Errorf("%q is not a GTID of MariaDB", one)
		}
		domain, err := strconv.ParseUint(parts[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("domain of %q: %w", one, err)
		}
		n, err := strconv.ParseUint(parts[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("number of %q: %w", one, err)
		}
		out[uint32(domain)] = max(out[uint32(domain)], n)
	}
	return out, nil
}

// mysqlGTIDs is a position in MySQL's binary logs: which transactions of each source have been
// executed. They may have gaps, where several threads apply them. The key is the server's UUID,
// with the tag if there is one.
type mysqlGTIDs map[string][]span

// span is a range of transactions, both ends included.
type span struct{ from, to uint64 }

func (g mysqlGTIDs) reaches(other position) bool {
	o, ok := other.(mysqlGTIDs)
	if !ok {
		return false
	}
	for source, spans := range o {
		mine := g[source]
		for _, s := range spans { // ours are merged: one must hold all of s
			i, _ := slices.BinarySearchFunc(mine, s.from, func(m span, from uint64) int {
				if m.to < from {
					return -1
				}
				return 1
			})
			if i == len(mine) || mine[i].from > s.from || mine[i].to < s.to {
				return false
			}
		}
	}
	return true
}

// parseMySQLGTIDs reads MySQL's set of GTIDs: "uuid:1-5:7,\nuuid:tag:1-3:tag2:9"; "" is the empty
// set. A part that is no range is a tag, for the ranges after it.
func parseMySQLGTIDs(text string) (mysqlGTIDs, error) {
	out := mysqlGTIDs{}
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		if one == "" {
			continue
		}
		parts := strings.Split(one, ":")
		source := strings.ToLower(parts[0])
		key, found := source, false
		for _, part := range parts[1:] {
			part = strings.TrimSpace(part)
			if part == "" || part[0] < '0' || part[0] > '9' {
				key = source + ":" + part
				continue
			}
			s, err := parseSpan(part)
			if err != nil {
				return nil, fmt.Errorf("%q in %q: %w", part, one, err)
			}
			out[key], found = append(out[key], s), true
		}
		if !found {
			return nil, fmt.Errorf("%q is not a set of GTIDs of MySQL", one)
		}
	}
	for source, spans := range out {
		out[source] = merged(spans)
	}
	return out, nil
}

func parseSpan(text string) (span, error) {
	first, last, isRange := strings.Cut(text, "-")
	from, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return span{}, err
	}
	if !isRange {
		return span{from, from}, nil
	}
	to, err := strconv.ParseUint(last, 10, 64)
	if err == nil && to < from {
		err = errors.New("it ends before it begins")
	}
	return span{from, to}, err
}

// merged sorts spans and joins those that touch.
func merged(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && (s.from <= out[n-1].to || s.from-1 == out[n-1].to) { // to+1 might overflow
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}
