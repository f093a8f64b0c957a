// Package statuspage shows what a lifecycle.Registry and its pools are doing: to a person as a page,
// to a program as JSON.
//
//	registry ──events───────▶ ┌──────┐ ──▶ /             a page; readable without JavaScript
//	health   ──verdicts─────▶ │ Page │ ──▶ /status.json  the same as a Document
//	pools    ──every 2 s────▶ └──────┘ ──▶ /live         changes, as server-sent events
//
// A [Page] is a component and an http.Handler in one. Sampling begins with its Start and ends with
// its Stop.
//
//	page := statuspage.New(reg, statuspage.Config{Allow: isOperator})
//	mux.Handle("/status/", http.StripPrefix("/status", page))
//	reg.Add("status", page, lifecycle.WithOps())
//
// Until Allow agrees, a request sees overall states without names. Guard the page like a debugger:
// it shows addresses, settings and stacks.
//
// The package imports the standard library only. It refuses to change anything, to load anything
// from elsewhere, to write to disk, and to run checks or to dial for the sake of a page.
package statuspage
