package streams_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/poolkeeper/poolkeeper/streams"
)

// reading is what a client makes of an event stream: events, waits that the server asks for, the last
// ID.
type reading struct {
	events []streams.Event
	waits  []time.Duration
	last   string
}

func (r reading) String() string {
	var b strings.Builder
	for _, e := range r.events {
		b.WriteString(strconv.Quote(e.ID) + strconv.Quote(e.Type) + strconv.Quote(string(e.Data)) + "\n")
	}
	for _, d := range r.waits {
		b.WriteString(d.String() + "\n")
	}
	return b.String() + strconv.Quote(r.last)
}

// readNaively is the algorithm of the HTML standard, "Interpreting an event stream", on the whole text
// at once.
func readNaively(text, id string) reading {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(text, "\ufeff"))
	lines := strings.Split(text, "\n")
	out := reading{last: id}
	kind, buffer := "", id
	var data []string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		if line == "" {
			out.last = buffer
			if data != nil {
				if kind == "message" {
					kind = ""
				}
				out.events = append(out.events, streams.Event{ID: buffer, Type: kind, Data: []byte(strings.Join(data, "\n"))})
			}
			kind, data = "", nil
			continue
		}
		field, value := line, ""
		if before, after, ok := strings.Cut(line, ":"); ok {
			field, value = before, strings.TrimPrefix(after, " ")
		}
		switch field {
		case "event":
			kind = value
		case "data":
			data = append(data, value)
		case "id":
			if !strings.Contains(value, "\x00") {
				buffer = value
			}
		case "retry":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil && !strings.ContainsAny(value, "+_") {
				out.waits = append(out.waits, time.Duration(n)*time.Millisecond)
			}
		}
	}
	return out
}

// Whatever a server sends, and wherever reads are cut, a client reads what the standard says. It never
// holds more than its limit of a line or of an event.
func FuzzReadEvents(f *testing.F) {
	for _, s := range []string{
		"data: YHOO\ndata: +2\n\n", ": c\n\nid: 1\ndata\r\n\r\rretry: 10\nevent: message\ndata: x\n\n", "\ufeffid\x00: a\nid: b\n\n",
		"data:test\r\rdata: test\r\n\r\ndata:x\r\n\n", "retry: +5\nretry: 99999999999\n\n", "event: a\n\ndata: y\nid: 3\n\n", "data: without end",
	} {
		f.Add(s, "7", 3)
	}
	const limit = 1 << 10
	f.Fuzz(func(t *testing.T, text, id string, cut int) {
		read := func(r io.Reader) (out reading, err error) {
			out.last = id
			err = streams.ReadEvents(r, limit, id, func() {}, func(d time.Duration) { out.waits = append(out.waits, d) }, func(e streams.Event) error {
				if len(e.Data) > limit {
					t.Fatalf("an event of %d bytes", len(e.Data))
				}
				out.events = append(out.events, e)
				return nil
			}, func(id string) { out.last = id })
			return out, err
		}
		whole, err := read(strings.NewReader(text))
		pieces, pieceErr := read(iotest.OneByteReader(strings.NewReader(text)))
		if whole.String() != pieces.String() || !errors.Is(pieceErr, err) {
			t.Fatalf("%q at once is %s, %v; in pieces %s, %v", text, whole, err, pieces, pieceErr)
		}
		if errors.Is(err, bufio.ErrTooLong) && len(text) > limit {
			return
		}
		if want := readNaively(text, id); !errors.Is(err, io.EOF) || whole.String() != want.String() {
			t.Fatalf("%q is %s, %v; want %s", text, whole, err, want)
		}
		if at := min(max(cut, 0), len(text)); at < len(text) { // a stream that breaks off gives no half events
			broken, err := read(io.MultiReader(strings.NewReader(text[:at]), iotest.ErrReader(errLost)))
			if !errors.Is(err, errLost) || len(broken.events) > len(whole.events) {
				t.Fatalf("%q, lost after %d: %s, %v", text, at, broken, err)
			}
			for i, e := range broken.events {
				if !bytes.Equal(e.Data, whole.events[i].Data) {
					t.Fatalf("%q, lost after %d: %q", text, at, e.Data)
				}
			}
		}
	})
}

var errLost = errors.New("lost")

// Whatever a client sends as its Last-Event-ID, it gets events that followed it, in order and each
// once, or is told that it has missed some.
func FuzzLastEventID(f *testing.F) {
	f.Add("id-3", uint8(5))
	f.Add("id-2", uint8(5))
	f.Add("id-0", uint8(5))
	f.Add("", uint8(2))
	f.Add("0", uint8(9))
	f.Add("id-99999999999999999999", uint8(1))
	f.Fuzz(func(t *testing.T, lastID string, count uint8) {
		h := started(t, streams.Config{Replay: 4})
		defer func() { _ = h.Abort() }()
		n := int(count % 16)
		var ids []string
		for i := range n {
			id := ""
			if i%2 == 0 {
				id = "id-" + strconv.Itoa(i)
			}
			if err := h.Broadcast("a", streams.Event{ID: id, Data: []byte(strconv.Itoa(i))}); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		got := make(chan string, 64)
		m, ok := h.Join(lastID, func(batch []string) error {
			for _, text := range batch {
				got <- text
			}
			return nil
		})
		if !ok {
			t.Fatal("not admitted")
		}
		if err := m.Subscribe("a"); err != nil {
			t.Fatal(err)
		}
		missed := m.Missed()
		if err := h.Broadcast("a", streams.Event{Data: []byte("last")}); err != nil {
			t.Fatal(err)
		}
		var list []string
		for text := range got {
			if list = append(list, text); text == "last" {
				break
			}
		}
		m.Leave()
		list = list[:len(list)-1]
		for i, text := range list {
			if want := strconv.Itoa(n - len(list) + i); text != want {
				t.Fatalf("after %q of %d: %v", lastID, n, list)
			}
		}
		for i, id := range ids {
			if id == lastID && id != "" && n-1-i < 4 && (missed || len(list) != n-1-i) {
				t.Fatalf("after %q of %d: %v, missed %t", lastID, n, list, missed)
			}
		}
		if lastID == "" && (len(list) > 0 || missed) {
			t.Fatalf("a new client gets %v, missed %t", list, missed)
		}
		if len(list) > 4 {
			t.Fatalf("%d events of 4 that are kept", len(list))
		}
	})
}
