package streams

import (
	"bytes"
	"fmt"
	"strings"
)

// Event is what a stream delivers.
type Event struct {
	// ID is what an SSE client sends as Last-Event-ID when it reconnects. It must not contain line
	// breaks or NUL. If it is empty, Broadcast gives the event an ID of its own; an event of Send
	// then has none, and the client's last ID stays.
	ID string
	// Type is the SSE event type; empty is "message". It must not contain line breaks. It is not
	// sent on WebSockets.
	Type string
	// Data is the payload: UTF-8 text. An SSE client sees every kind of line break in it as \n. It is
	// a text message on a WebSocket. It is copied.
	Data []byte
}

// message is an event in the forms in which streams write it. It never changes.
type message struct {
	seq  uint64 // the place among all events of the hub; 0: an event of Send
	id   string
	sse  []byte // "id: …\nevent: …\ndata: …\n\n"
	data []byte
}

// check reports what keeps e from being sent: a line break would let data pass for a field.
func (e *Event) check() error {
	if strings.ContainsAny(e.ID, "\r\n\x00") {
		return fmt.Errorf("%s: the ID of an event is %q; it must not contain line breaks or NUL", pkg, e.ID)
	}
	if strings.ContainsAny(e.Type, "\r\n") {
		return fmt.Errorf("%s: the Type of an event is %q; it must not contain line breaks", pkg, e.Type)
	}
	return nil
}

// encode makes a message of e under an ID. Both forms share one allocation.
func (e *Event) encode(id string) *message {
	lines := bytes.Count(e.Data, []byte{'\n'}) + bytes.Count(e.Data, []byte{'\r'}) + 1
	buf := make([]byte, 0, len("id: \nevent: \n\n")+len(id)+len(e.Type)+len("data: \n")*lines+2*len(e.Data))
	if id != "" {
		buf = append(append(append(buf, "id: "...), id...), '\n')
	}
	if e.Type != "" {
		buf = append(append(append(buf, "event: "...), e.Type...), '\n')
	}
	buf = appendData(buf, e.Data)
	sse := len(buf)
	buf = append(buf, e.Data...)
	return &message{id: id, sse: buf[:sse:sse], data: buf[sse:]}
}

// appendData appends one data field for each line, and the empty line that ends an event.
func appendData(buf, data []byte) []byte {
	for {
		end := bytes.IndexAny(data, "\r\n")
		line := data
		if end >= 0 {
			line = data[:end]
		}
		buf = append(append(append(buf, "data: "...), line...), '\n')
		if end < 0 {
			return append(buf, '\n')
		}
		if bytes.HasPrefix(data[end:], []byte("\r\n")) {
			end++
		}
		data = data[end+1:]
	}
}
