package streams_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper/streams"
)

// A page of another site opens no SSE stream, unless its origin is allowed: with the same option as for
// WebSockets.
func TestSSEForAPageOfAnotherOriginTakesNoPlace(t *testing.T) {
	const own, evil, ours = "https://api.example", "https://evil.example", "https://app.example"
	for name, tt := range map[string]struct {
		accept       websocket.AcceptOptions
		site, origin string
		refused      bool
	}{
		"no browser":                           {},
		"the own origin":                       {site: "same-origin"},
		"a user types the address":             {site: "none"},
		"an old browser, the own origin":       {origin: own},
		"an old browser, another":              {origin: evil, refused: true},
		"another site":                         {site: "cross-site", origin: evil, refused: true},
		"another name of the same site":        {site: "same-site", origin: ours, refused: true},
		"an image of another site":             {site: "cross-site", refused: true},
		"a sandboxed page":                     {site: "cross-site", origin: "null", refused: true},
		"a value of a later standard":          {site: "x", origin: own, refused: true},
		"another name, allowed":                {accept: websocket.AcceptOptions{OriginPatterns: []string{"APP.*"}}, site: "same-site", origin: ours},
		"another name, allowed with scheme":    {accept: websocket.AcceptOptions{OriginPatterns: []string{"https://app.example"}}, origin: ours},
		"another site, where a name is":        {accept: websocket.AcceptOptions{OriginPatterns: []string{"app.*"}}, site: "cross-site", origin: evil, refused: true},
		"an image, where a name is allowed":    {accept: websocket.AcceptOptions{OriginPatterns: []string{"*"}}, site: "cross-site", refused: true},
		"another site, without the protection": {accept: websocket.AcceptOptions{InsecureSkipVerify: true}, site: "cross-site", origin: evil},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			h := started(t, streams.Config{Accept: tt.accept, Authorize: func(*http.Request) error { asked = true; return nil }})
			url := serve(t, h.SSE(follow("t")))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = strings.TrimPrefix(own, "https://")
			for key, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin} {
				if value != "" {
					req.Header.Set(key, value)
				}
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if (resp.StatusCode == http.StatusForbidden) != tt.refused || asked == tt.refused {
				t.Errorf("%s, Authorize was asked: %t", resp.Status, asked)
			}
			if n := h.StreamStats().Refused["handshake"]; (n == 1) != tt.refused {
				t.Errorf("%d handshakes refused", n)
			}
		})
	}
}

// Without allowed origins, a stream is refused where net/http refuses a change.
func FuzzOrigin(f *testing.F) {
	for _, site := range []string{"", "same-origin", "none", "same-site", "cross-site"} {
		f.Add(site, "https://h:8080", "h:8080")
		f.Add(site, "null", "h")
	}
	f.Add("", "://", "h")
	f.Add("", "https://u:p@h/path", "h")
	net := http.NewCrossOriginProtection()
	f.Fuzz(func(t *testing.T, site, origin, host string) {
		if host != strings.ToLower(host) || origin != strings.ToLower(origin) || host == "" {
			return // names of hosts are the same in any case
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Host = host
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Origin", origin)
		got, want := streams.Foreign(streams.Config{}, r), net.Check(r)
		if (got == nil) != (want == nil) {
			t.Errorf("Sec-Fetch-Site %q, Origin %q, Host %q: %v, net/http says %v", site, origin, host, got, want)
		}
		if err := streams.Foreign(streams.Config{Accept: websocket.AcceptOptions{OriginPatterns: []string{"allowed.example"}}}, r); err == nil &&
			want != nil && !strings.Contains(origin, "allowed.example") {
			t.Errorf("Origin %q passes for allowed.example", origin)
		}
	})
}
