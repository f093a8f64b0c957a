package httpclient_test

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// misbehaves is a server that answers at once, late, in parts, or breaks the connection.
func misbehaves(w http.ResponseWriter, r *http.Request) {
	switch rand.IntN(6) {
	case 0:
		<-time.After(time.Duration(rand.IntN(3)) * time.Millisecond)
	case 1:
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case 2:
		panic(http.ErrAbortHandler)
	case 3:
		w.WriteHeader(http.StatusNoContent)
	case 4:
		_, _ = w.Write(make([]byte, 1<<16))
	default:
		_, _ = io.Copy(w, r.Body)
	}
}

// After any behaviour of server and callers, every gauge returns to zero.
func TestAStormLeavesNothingCounted(t *testing.T) {
	t.Parallel()
	for name, srv := range map[string]*httptest.Server{
		"HTTP/1.1": serve(t, misbehaves), "HTTP/2": serveTLS(t, misbehaves),
	} {
		c := started(t, httpclient.Config{
			BaseURL: srv.URL, MaxOpen: 4, MaxWaiting: 8, AcquireTimeout: 5 * time.Millisecond, HeaderTimeout: 3 * time.Millisecond,
			RequestTimeout: 20 * time.Millisecond, FailFastAfter: 10 * time.Millisecond, TLS: &tls.Config{InsecureSkipVerify: true},
		})
		storm(t, c, srv.URL)
		testkit.Eventually(t, name+": nothing is left", func() bool {
			s := c.Stats()
			return s.Waiting == 0 && s.InUse == 0 && s.Dialing == 0 && len(c.Holders()) == 0
		})
		testkit.Eventually(t, name+": it works", func() bool { _, err := get(t.Context(), c, srv.URL); return err == nil })
		if err := c.Stop(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := c.Stats(); s.Open != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// storm requests from many goroutines, some of which give up, read in part, or reset the client.
func storm(t *testing.T, c *httpclient.Client, url string) {
	t.Helper()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 40 {
				if rand.IntN(50) == 0 {
					c.Reset()
				}
				request(t, c, url)
			}
		})
	}
	wg.Wait()
}

func request(t *testing.T, c *httpclient.Client, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(10)+1)*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.LimitReader(zeros{}, int64(rand.IntN(1<<15))))
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := c.HTTP().Do(req)
	if err != nil {
		return // as it may
	}
	if rand.IntN(3) > 0 {
		_, _ = io.CopyN(io.Discard, resp.Body, int64(rand.IntN(1<<16)))
	}
	_ = resp.Body.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
