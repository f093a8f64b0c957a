package streams_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/streams"
)

// twin is a hub as naive as can be: it keeps every event for ever, and works one step at a time.
type twin struct {
	buffer, replay int
	overflow       streams.Overflow
	log            []logged      // all events
	members        []*twinMember // all that have ever joined
}

type logged struct {
	topic, text string
}

// twinMember is a stream: what it has been written, and what waits.
type twinMember struct {
	topics  map[string]bool
	first   bool // it has not subscribed yet
	last    int  // number of the event its client has last seen; -1: none
	writing bool // the writer is blocked with an event
	waiting []string
	got     []string
	over    bool
	left    bool

	real    *streams.Member
	release chan struct{} // lets one blocked write pass
	wrote   *[]string
}

func (tw *twin) kept(topic string) (list []int) {
	for i, e := range tw.log {
		if e.topic == topic {
			list = append(list, i)
		}
	}
	return list[max(len(list)-tw.replay, 0):]
}

func (m *twinMember) put(text string) {
	if !m.writing {
		m.writing = true
		m.got = append(m.got, text)
		return
	}
	m.waiting = append(m.waiting, text)
}

func (tw *twin) broadcast(topic string) string {
	text := strconv.Itoa(len(tw.log))
	tw.log = append(tw.log, logged{topic, text})
	for _, m := range tw.members {
		switch {
		case m.over || !m.topics[topic]:
		case len(m.waiting) < tw.buffer:
			m.put(text)
		case tw.overflow == streams.DropOldest:
			m.waiting = append(m.waiting[1:], text)
		default:
			m.over, m.waiting = true, nil
		}
	}
	return text
}

func (tw *twin) subscribe(m *twinMember, topics []string) {
	for _, t := range topics {
		m.topics[t] = true
	}
	if m.first && m.last >= 0 {
		var missed []int
		for t := range m.topics {
			for _, i := range tw.kept(t) {
				if i > m.last {
					missed = append(missed, i)
				}
			}
		}
		slices.Sort(missed)
		for _, i := range missed {
			m.waiting = append(m.waiting, tw.log[i].text)
		}
		m.take()
	}
	m.first = false
}

// take is the writer: it takes all that waits, and is blocked with it.
func (m *twinMember) take() {
	if m.writing || len(m.waiting) == 0 {
		return
	}
	m.writing = true
	m.got = append(m.got, m.waiting...)
	m.waiting = nil
}

// The hub delivers to each stream what a naive twin would, in the same order, whatever is slow. In a
// bubble, everything that can happen has happened after each step. A writer takes all that waits at
// once, so that one release lets a whole batch pass.
func TestHubDeliversWhatItsNaiveTwinDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { hubDeliversWhatItsTwinDoes(t, rt) })
}

func FuzzHubDeliversWhatItsNaiveTwinDoes(f *testing.F) { fuzzing.Bubble(f, hubDeliversWhatItsTwinDoes) }

func hubDeliversWhatItsTwinDoes(t *testing.T, rt *rapid.T) {
	t.Helper()
	tw := &twin{
		buffer: rapid.IntRange(1, 4).Draw(rt, "buffer"), replay: rapid.IntRange(1, 5).Draw(rt, "replay"),
		overflow: rapid.SampledFrom([]streams.Overflow{streams.DropSlow, streams.DropOldest}).Draw(rt, "overflow"),
	}
	steps := rapid.SliceOfN(rapid.Custom(drawStep), 20, 100).Draw(rt, "steps")
	synctest.Test(t, func(t *testing.T) {
		h := started(t, streams.Config{Buffer: tw.buffer, Replay: tw.replay, Overflow: tw.overflow})
		var ids []string // of all events
		tw.log, tw.members = nil, nil
		for _, s := range steps {
			tw.step(t, h, s, &ids)
			synctest.Wait()
			if fault := tw.compare(); fault != "" {
				rt.Errorf("after %+v: %s", s, fault)
				break
			}
		}
		for _, m := range tw.members {
			if !m.left {
				close(m.release)
				m.real.Leave()
			}
		}
		_ = h.Abort()
	})
}

// step is one thing that happens.
type step struct {
	what   string
	member int
	topics []string
}

func drawStep(rt *rapid.T) step {
	return step{
		what: rapid.SampledFrom([]string{
			"join", "again", "subscribe", "unsubscribe", "broadcast", "broadcast", "broadcast", "broadcast", "broadcast", "release", "leave",
		}).Draw(rt, "what"),
		member: rapid.IntRange(0, 5).Draw(rt, "member"),
		topics: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 1, 2, rapid.ID).Draw(rt, "topics"),
	}
}

func (tw *twin) step(t *testing.T, h *streams.Hub, s step, ids *[]string) {
	t.Helper()
	var m *twinMember
	if len(tw.members) > 0 {
		m = tw.members[s.member%len(tw.members)]
	}
	switch s.what {
	case "join":
		m = tw.join(t, h, "", -1)
		s.what = "subscribe"
	case "again":
		if n := len(*ids); n > 0 {
			at := n - 1 - min(s.member, n-1)
			m = tw.join(t, h, (*ids)[at], at)
			s.what = "subscribe"
		}
	case "broadcast":
		text := tw.broadcast(s.topics[0])
		id := "id-" + text
		*ids = append(*ids, id)
		if err := h.Broadcast(s.topics[0], streams.Event{ID: id, Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	if m == nil || m.left {
		return
	}
	switch s.what {
	case "subscribe":
		if m.last >= 0 && m.first && !tw.remembers(m.last, s.topics) {
			return // the hub does not know how much was missed: another test
		}
		tw.subscribe(m, s.topics)
		if err := m.real.Subscribe(s.topics...); err != nil {
			t.Fatal(err)
		}
	case "unsubscribe":
		for _, topic := range s.topics {
			delete(m.topics, topic)
		}
		m.real.Unsubscribe(s.topics...)
	case "release":
		if m.writing {
			m.writing = false
			m.take()
			m.release <- struct{}{}
		}
	case "leave":
		m.over, m.left = true, true
		m.got = append(m.got, m.waiting...) // what waits is written before the end
		close(m.release)
		m.real.Leave()
	}
}

// remembers reports whether the event is kept in one of the topics: its number is known then.
func (tw *twin) remembers(event int, topics []string) bool {
	return slices.ContainsFunc(topics, func(t string) bool { return slices.Contains(tw.kept(t), event) })
}

func (tw *twin) join(t *testing.T, h *streams.Hub, lastID string, last int) *twinMember {
	t.Helper()
	m := &twinMember{topics: map[string]bool{}, first: true, last: last, release: make(chan struct{}), wrote: new([]string)}
	ok := false
	m.real, ok = h.Join(lastID, func(batch []string) error {
		*m.wrote = append(*m.wrote, batch...)
		<-m.release
		return nil
	})
	if !ok {
		t.Fatal("not admitted")
	}
	tw.members = append(tw.members, m)
	return m
}

func (tw *twin) compare() string {
	for i, m := range tw.members {
		if !slices.Equal(m.got, *m.wrote) || m.real.Over() != m.over {
			return fmt.Sprintf("stream %d was written %v, over: %t; want %v, %t", i, *m.wrote, m.real.Over(), m.got, m.over)
		}
	}
	return ""
}
