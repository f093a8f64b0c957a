package streams

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// sessionWS is a session on a WebSocket. w is reset with each sign of life.
func (c *Client) sessionWS(ctx context.Context, header http.Header, w *watchdog) (asked time.Duration, err error) {
	conn, resp, err := websocket.Dial(ctx, c.url(), &websocket.DialOptions{
		HTTPClient: c.cfg.HTTP, HTTPHeader: header,
		OnPingReceived: func(context.Context, []byte) bool { w.timer.Reset(c.cfg.Silence); return true },
	})
	if err != nil {
		if resp != nil {
			asked = retryAfter(resp.Header)
		}
		return asked, err
	}
	conn.SetReadLimit(int64(c.cfg.ReadLimit))
	w.timer.Reset(c.cfg.Silence)
	c.opened(conn)
	defer func() { _ = conn.CloseNow() }()
	// Stop runs the close handshake. Read then returns.
	defer context.AfterFunc(c.running, func() { _ = conn.Close(websocket.StatusNormalClosure, "") })()
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return 0, err
		}
		w.timer.Reset(c.cfg.Silence)
		if err := c.receive(ctx, Event{Data: data}); err != nil {
			_ = conn.Close(websocket.StatusInternalError, "cannot receive")
			return 0, err
		}
	}
}

// sessionSSE is a session of server-sent events.
func (c *Client) sessionSSE(ctx context.Context, header http.Header, w *watchdog) (asked time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.running, cancel)()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(), nil)
	if err != nil {
		return 0, errors.New(pkg + ": the request cannot be made")
	}
	req.Header = header
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-cache")
	if c.lastID != "" {
		req.Header.Set("Last-Event-ID", c.lastID)
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		return retryAfter(resp.Header), fmt.Errorf("%s: the server answers %s, %q; want 200 and text/event-stream", pkg, resp.Status, kind)
	}
	w.timer.Reset(c.cfg.Silence)
	c.opened(nil)
	err = readEvents(resp.Body, c.cfg.ReadLimit, c.lastID, eventSink{
		alive: func() { w.timer.Reset(c.cfg.Silence) },
		retry: func(d time.Duration) { c.retry = d },
		event: func(e Event) error { return c.receive(ctx, e) },
		seen:  func(id string) { c.lastID = id },
	})
	return c.retry, err
}

// retryAfter is what a server asks for that refuses a request; in seconds alone.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 || n > 24*60*60 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// eventSink takes what an SSE stream holds.
type eventSink struct {
	alive func()              // a line has come, of whatever kind
	retry func(time.Duration) // the server says when to reconnect
	event func(Event) error   // ID is that of the last event that had one; an error ends the stream
	seen  func(id string)     // the last ID, after each event
}

// readEvents reads an event stream as the HTML standard says, until it ends. It returns io.EOF if
// that was the server's doing. id is the last one of the stream before.
func readEvents(r io.Reader, limit int, id string, to eventSink) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, limit+1)
	lines.Split(new(lineSplitter).split)
	p := eventParser{to: to, id: id}
	for first := true; lines.Scan(); first = false {
		to.alive()
		line := lines.Text()
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if err := p.line(line); err != nil {
			return err
		}
		if len(p.data) > limit {
			return bufio.ErrTooLong
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

// eventParser puts events together from lines.
type eventParser struct {
	to       eventSink
	id, kind string
	data     []byte // each line with its end; nil: no event yet
}

func (p *eventParser) line(line string) error {
	if line == "" {
		return p.dispatch()
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		p.kind = value
	case "data":
		p.data = append(append(p.data, value...), '\n')
	case "id":
		if !strings.Contains(value, "\x00") {
			p.id = value
		}
	case "retry":
		if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
			p.to.retry(time.Duration(ms) * time.Millisecond)
		}
	}
	return nil
}

// dispatch passes a complete event on.
func (p *eventParser) dispatch() error {
	kind, data := p.kind, p.data
	p.kind, p.data = "", nil
	if kind == "message" {
		kind = ""
	}
	if data != nil {
		if err := p.to.event(Event{ID: p.id, Type: kind, Data: bytes.TrimSuffix(data, []byte{'\n'})}); err != nil {
			return err
		}
	}
	p.to.seen(p.id)
	return nil
}

// lineSplitter ends lines at \n, \r and \r\n. A \r ends its line at once: the next byte may be long
// in coming.
type lineSplitter struct{ afterCR bool }

func (l *lineSplitter) split(data []byte, atEOF bool) (advance int, token []byte, err error) {
	skip := 0
	if l.afterCR && len(data) > 0 {
		l.afterCR = false
		if data[0] == '\n' {
			skip = 1
		}
	}
	rest := data[skip:]
	end := bytes.IndexAny(rest, "\r\n")
	if end < 0 {
		if atEOF { // a line that is not complete does not count
			return len(data), nil, nil
		}
		return skip, nil, nil
	}
	l.afterCR = rest[end] == '\r'
	return skip + end + 1, rest[:end:end], nil
}
