package expiry_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shake is a handshake of a client with a server, as the client sees it.
func shake(t *testing.T, client, server *tls.Config) tls.ConnectionState {
	t.Helper()
	a, b := net.Pipe()
	c, s := tls.Client(a, client), tls.Server(b, server)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.HandshakeContext(t.Context()) })
	defer func() { _, _ = a.Close(), b.Close() }()
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return c.ConnectionState()
}

func texts(list []poolkeeper.Expiry) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.Kind + " " + e.Subject
	}
	return out
}

func sortedTexts(list []poolkeeper.Expiry) []string {
	out := texts(list)
	slices.Sort(out)
	return out
}

func TestBookHasTheClientTheServerAndTheCAThatCounts(t *testing.T) {
	old, ca := testcerts.Named(t, "old"), testcerts.Named(t, "new")
	client := ca.Pair(t, "client")
	client.Leaf = nil // as some make it
	bundle := []*x509.Certificate{old.Certificate(), ca.Certificate()}
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "db", Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12}
	b := expiry.New(config, bundle)
	if got, want := sortedTexts(b.List()), []string{"ca new", "ca old", "client-certificate client"}; !slices.Equal(got, want) {
		t.Errorf("before a handshake %q, want %q", got, want)
	}
	b.Saw(shake(t, config, &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "db")}, MinVersion: tls.VersionTLS12}))
	got := b.List()
	if want := []string{"ca new", "client-certificate client", "server-certificate db"}; !slices.Equal(sortedTexts(got), want) {
		t.Errorf("%q, want %q", sortedTexts(got), want)
	}
	if !slices.IsSortedFunc(got, func(x, y poolkeeper.Expiry) int { return x.NotAfter.Compare(y.NotAfter) }) {
		t.Errorf("not in the order of their ends: %v", got)
	}

	// A renewed certificate takes the place of the old one.
	renewed := ca.PairUntil(t, "db", time.Now().Add(400*24*time.Hour))
	b.Saw(shake(t, config, &tls.Config{Certificates: []tls.Certificate{renewed}, MinVersion: tls.VersionTLS12}))
	again := b.List()
	if len(again) != 3 || !slices.ContainsFunc(again, func(e poolkeeper.Expiry) bool { return e.NotAfter.Equal(renewed.Leaf.NotAfter) }) {
		t.Errorf("after the server's renewal: %v", again)
	}
}

// An unverified server says nothing about the CA, and a plain connection nothing at all.
func TestBookKeepsWhatAHandshakeDoesNotTell(t *testing.T) {
	ca := testcerts.New(t)
	b := expiry.New(&tls.Config{MinVersion: tls.VersionTLS12}, []*x509.Certificate{ca.Certificate()})
	b.Saw(tls.ConnectionState{})
	if got := texts(b.List()); !slices.Equal(got, []string{"ca test authority"}) {
		t.Errorf("%q", got)
	}
	b.Saw(shake(t, &tls.Config{InsecureSkipVerify: true, ServerName: "db", MinVersion: tls.VersionTLS12}, //nolint:gosec // the case under test
		&tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "db")}, MinVersion: tls.VersionTLS12}))
	if got := sortedTexts(b.List()); !slices.Equal(got, []string{"ca test authority", "server-certificate db"}) {
		t.Errorf("%q", got)
	}
	var none *expiry.Book
	none.Saw(tls.ConnectionState{})
	none.SetPassword(time.Now())
	new(expiry.Watch).Due(none, func(poolkeeper.Expiry, time.Time) { t.Error("an empty book has something to warn of") })
	if none.List() != nil || expiry.New(nil, nil).List() != nil {
		t.Error("an empty book has entries")
	}
}

// A Cluster's nodes come and go.
func TestBookForgetsTheServersNotSeenForLongest(t *testing.T) {
	ca := testcerts.New(t)
	leaf := ca.Pair(t, "node").Leaf
	b := new(expiry.Book)
	for i := range 100 {
		own := *leaf
		own.Subject.CommonName = fmt.Sprint("node-", i)
		b.Saw(tls.ConnectionState{ServerName: own.Subject.CommonName, PeerCertificates: []*x509.Certificate{&own}})
	}
	got := texts(b.List())
	if len(got) != 64 || slices.Contains(got, "server-certificate node-35") || !slices.Contains(got, "server-certificate node-99") {
		t.Errorf("%d servers: %q", len(got), got)
	}
}

func TestWatchWarnsOnceADayAndAgainAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		b, w := new(expiry.Book), new(expiry.Watch)
		b.SetPassword(begun.Add(15*24*time.Hour + 12*time.Hour))
		var soon, over []time.Duration
		for time.Since(begun) < 18*24*time.Hour {
			w.Due(b, func(e poolkeeper.Expiry, now time.Time) {
				if now.After(e.NotAfter) {
					over = append(over, time.Since(begun))
				} else {
					soon = append(soon, time.Since(begun))
				}
			})
			time.Sleep(10 * time.Minute)
		}
		if len(soon) != 15 || len(over) != 3 { // the first and the last moment of 14 days
			t.Errorf("warned %d times before the end and %d times after it, want 15 and 3: %v, %v", len(soon), len(over), soon, over)
		}
		if first := soon[0] - 36*time.Hour; first < 0 || first > time.Hour {
			t.Errorf("warned for the first time after %v, want 14 days before the end", soon[0])
		}
		if late := over[0] - (15*24+12)*time.Hour; late < 0 || late > time.Hour {
			t.Errorf("told of the end %v late", late)
		}
	})
}

// What a handshake has just shown does not wait for the next hour.
func TestWatchLooksAtOnceAtABookThatHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := new(expiry.Book), new(expiry.Watch)
		var warned int
		due := func(b *expiry.Book) int {
			warned = 0
			w.Due(b, func(poolkeeper.Expiry, time.Time) { warned++ })
			return warned
		}
		if due(b) != 0 {
			t.Error("an empty book")
		}
		b.SetPassword(time.Now().Add(time.Hour))
		if due(b) != 1 || due(b) != 0 {
			t.Error("a password that expires in an hour is not warned of once")
		}
		other := new(expiry.Book) // of a new configuration, with the same password
		other.SetPassword(time.Now().Add(time.Hour))
		if due(other) != 0 {
			t.Error("the same is warned of twice")
		}
		other.SetPassword(time.Time{})
		if due(other) != 0 || len(other.List()) != 0 {
			t.Error("a password without an end has one")
		}
	})
}
