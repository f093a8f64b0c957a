package httpclient_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/httpclient"
)

// mutePipe is a network whose servers read and say nothing.
func mutePipe(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	// Owner: the connection; it ends when either side closes.
	go func() {
		defer func() { _ = far.Close() }()
		for p := make([]byte, 1<<10); ; {
			if _, err := far.Read(p); err != nil {
				return
			}
		}
	}()
	return near, nil
}

// One timer serves all requests; each ends at its own limit.
func TestEachRequestEndsAtItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, apart, n = time.Second, 300 * time.Millisecond, 8
		for stage, cfg := range map[httpclient.Stage]httpclient.Config{
			httpclient.StageHeader:  {HeaderTimeout: limit},
			httpclient.StageRequest: {RequestTimeout: limit, HeaderTimeout: 2 * limit},
		} {
			cfg.DialContext = mutePipe
			c := started(t, cfg)
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					began := time.Now()
					_, err := get(t.Context(), c, "http://server.example")
					e, ok := errors.AsType[*httpclient.TimeoutError](err)
					if took := time.Since(began); !ok || e.Stage != stage || took < limit || took > limit+2*time.Millisecond {
						t.Errorf("%s: after %s: %v", stage, took, err)
					}
				})
				time.Sleep(apart)
			}
			wg.Wait()
			if err := c.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A request without a body has its HeaderTimeout from when it has a connection, another from when it is
// written: a body that takes long to send is not the server's time.
func TestHeaderTimeoutLeavesOutTheSending(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)) })
	c := started(t, httpclient.Config{HeaderTimeout: 4 * short})
	late := make(chan struct{})
	time.AfterFunc(8*short, func() { close(late) })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, readerFunc(func(p []byte) (int, error) {
		<-late
		return copy(p, "x"), errEnd
	}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.HTTP().Do(req) //nolint:bodyclose // there is none
	if !errors.Is(err, errEnd) {
		t.Errorf("the body's own error is lost: %v", err)
	}
}

var errEnd = errors.New("the body ends with an error")

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
