package streams

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// foreign returns an error if a browser sends r for a page of another origin that Accept does not
// allow. It decides like http.CrossOriginProtection, which lets every GET pass. Programs that are no
// browsers send neither header.
func (h *Hub) foreign(r *http.Request) error {
	accept := &h.cfg.Accept
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if accept.InsecureSkipVerify || site == "same-origin" || site == "none" || site == "" && origin == "" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" { // "null", or an image or a link of another site
		return fmt.Errorf("a page of another site: Sec-Fetch-Site %q, Origin %q", site, origin)
	}
	if site == "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	if slices.ContainsFunc(accept.OriginPatterns, func(pattern string) bool { return matches(pattern, u) }) {
		return nil
	}
	return fmt.Errorf("the Origin %q is not authorized for Host %q", origin, r.Host)
}

// matches reports whether a pattern of OriginPatterns allows an origin, as websocket.Accept does.
func matches(pattern string, origin *url.URL) bool {
	target := origin.Host
	if strings.Contains(pattern, "://") {
		target = origin.Scheme + "://" + origin.Host
	}
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(target))
	return ok && err == nil // Validate has tried the pattern
}
