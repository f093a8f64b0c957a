package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// closing is how a client was sent away, and when it would come back.
type closing struct {
	at   time.Time
	how  string // "1001", "close", or what has gone wrong
	wait time.Duration
}

// crowd is the clients of a trial.
type crowd struct {
	url  string
	http *http.Client

	group sync.WaitGroup
	mu    sync.Mutex // guards the following
	gone  []closing
}

func newCrowd(url string) *crowd {
	return &crowd{url: url, http: &http.Client{Transport: &http.Transport{}}}
}

func (c *crowd) note(g closing) {
	g.at = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = append(c.gone, g)
}

// websocket opens a WebSocket. It reads until it is closed, and answers pings.
func (c *crowd) websocket(ctx context.Context, user, room string) error {
	conn, resp, err := websocket.Dial(ctx, c.url+"/chat/"+room, &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: http.Header{"User": {user}},
	})
	if err != nil {
		return refusal(resp, err)
	}
	c.group.Go(func() {
		defer func() { _ = conn.CloseNow() }()
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				c.note(closing{how: strconv.Itoa(int(websocket.CloseStatus(err)))})
				return
			}
		}
	})
	return nil
}

// refused is the status of a stream that was not opened.
type refused int

func (r refused) Error() string { return fmt.Sprintf("refused with %d", int(r)) }

func refusal(resp *http.Response, err error) error {
	if resp != nil {
		return refused(resp.StatusCode)
	}
	return err
}

// open opens an SSE stream.
func (c *crowd) open(ctx context.Context, user, topic string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/events/"+topic, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User", user)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, refused(resp.StatusCode)
	}
	return resp, nil
}

// sse opens an SSE stream and reads it until it ends. Each event's data goes to got, which may be
// nil.
func (c *crowd) sse(ctx context.Context, user, topic string, got chan<- string) error {
	resp, err := c.open(ctx, user, topic)
	if err != nil {
		return err
	}
	c.group.Go(func() {
		defer func() { _ = resp.Body.Close() }()
		last := closing{how: "no last event"}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case field == "event":
				last.how = value
			case field == "retry" && last.how == "close":
				ms, _ := strconv.Atoi(value)
				last.wait = time.Duration(ms) * time.Millisecond
			case field == "data" && got != nil && last.how != "close":
				got <- value
			}
		}
		c.note(last)
	})
	return nil
}

// silent opens a WebSocket and never says anything again, not even a pong. closed is closed when
// the service has closed the connection.
func (c *crowd) silent(ctx context.Context, user string) (closed <-chan struct{}, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET /chat/quiet HTTP/1.1\r\nHost: service\r\nUser: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", user); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	c.group.Go(func() {
		defer close(done)
		defer func() { _ = conn.Close() }()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		buf := make([]byte, 1024)
		for err := error(nil); err == nil; {
			_, err = conn.Read(buf)
		}
	})
	return done, nil
}
