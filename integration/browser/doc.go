// Package browser looks at statuspage in a real Chromium, on real servers. It has tests only. It is
// a module of its own, so a service that imports poolkeeper does not get chromedp.
//
//	test ──▶ service: registry, pools on real PostgreSQL and Redis, statuspage
//	  │         ▲
//	  └──▶ Chromium ──GET, EventSource──┘
//
// Each page is judged by axe-core, which npm ci fetches and the tests inject:
//
//	cd integration/browser && npm ci && go test ./...
//
// With -update it writes the pictures in docs/images. It refuses to compare pictures: fonts and
// anti-aliasing differ from machine to machine. The tests assert on the page's DOM instead.
package browser
