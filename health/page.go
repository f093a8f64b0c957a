package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// view is what one request that is not the usual one wants to see.
type view struct {
	group    *groupPage
	only     string // name of the single check asked for; empty: the group
	verbose  bool
	exclude  []string
	detailed bool // the asker may see more than the status, and has reason to

	status   Status
	warnings []string
}

// resolve works out the status. It returns false if the check asked for is not there.
func (v *view) resolve() bool {
	if v.only != "" {
		it, ok := v.group.item(v.only)
		v.status = it.status
		return ok
	}
	v.status = v.group.status
	if len(v.exclude) == 0 {
		return true
	}
	slices.Sort(v.exclude)
	v.exclude = slices.Compact(v.exclude)
	for _, name := range v.exclude {
		if _, ok := v.group.item(name); !ok {
			v.warnings = append(v.warnings, fmt.Sprintf("cannot exclude %q: no such check", cut(name, maxNameLen)))
		}
	}
	v.status = v.group.judge(v.excluded)
	return true
}

func (v *view) excluded(name string) bool {
	_, found := slices.BinarySearch(v.exclude, name)
	return found
}

// page writes the view. The whole list is rendered once for each snapshot and then kept.
func (v *view) page(f format) []byte {
	if !v.detailed || v.only != "" || len(v.exclude) > 0 {
		return v.render(f)
	}
	kept := &v.group.detailed[f]
	if p := kept.Load(); p != nil {
		return *p
	}
	p := v.render(f)
	kept.Store(&p)
	return p
}

func (v *view) render(f format) []byte {
	if f == plainText {
		return v.text()
	}
	return v.json()
}

// items are the checks to list.
func (v *view) items() []item {
	if v.only != "" {
		it, _ := v.group.item(v.only)
		return []item{it}
	}
	all := v.group.items()
	return slices.DeleteFunc(all, func(it item) bool { return v.excluded(it.name) })
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// reason and advice are those of the root cause.
func (v *view) reason() string { return v.group.reason(v.excluded) }

func (v *view) advice() string {
	if v.group.obstacle() != "" || v.status == StatusPass {
		return ""
	}
	b, ok := v.group.blame(v.excluded)
	if !ok {
		return ""
	}
	return b.root.verdict.fault.Advice
}

// holds are those that keep this group from passing.
func (v *view) holds() []*hold {
	if v.only != "" || v.group.name == GroupLive || v.status.OK() {
		return nil
	}
	return v.group.snap.holds
}

// briefPage is what everybody may see.
func briefPage(s Status, f format) []byte {
	if f != plainText {
		return []byte(`{"status":"` + s.wire() + `"}` + "\n")
	}
	switch s {
	case StatusPass:
		return []byte("ok\n")
	case StatusWarn:
		return []byte("warn\n")
	case StatusFail, StatusUnknown:
	}
	return []byte("fail\n")
}

// text writes a view as lines in the manner of Kubernetes:
//
//	readyz check failed since 2026-11-21T10:00:00Z: orders is down because postgres: connection refused (refused)
//	  advice: …
//	[-] postgres fail since …: … (refused)
//	[+] redis pass since …
func (v *view) text() []byte {
	var b strings.Builder
	if v.detailed {
		v.textHead(&b)
		for _, it := range v.items() {
			v.textItem(&b, it)
		}
		for _, h := range v.holds() {
			fmt.Fprintf(&b, "[-] held since %s: %s\n", stamp(v.group.snap.clock.wall(h.since)), h.reason)
		}
	} else {
		b.Write(briefPage(v.status, plainText))
	}
	for _, w := range v.warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return []byte(b.String())
}

// sign is how a line begins, so that an eye and grep find it.
func (s Status) sign() string {
	switch s {
	case StatusPass:
		return "[+]"
	case StatusWarn:
		return "[!]"
	case StatusFail:
		return "[-]"
	case StatusUnknown:
	}
	return "[?]"
}

func (v *view) textHead(b *strings.Builder) {
	if v.only != "" {
		return
	}
	fmt.Fprintf(b, "%s %s", v.group.name, v.status)
	if len(v.exclude) == 0 {
		fmt.Fprintf(b, " since %s", stamp(v.group.snap.clock.wall(v.group.since)))
	}
	if r := v.reason(); r != "" {
		fmt.Fprintf(b, ": %s", r)
	}
	b.WriteByte('\n')
	if a := v.advice(); a != "" {
		fmt.Fprintf(b, "    %s\n", a)
	}
}

func (v *view) textItem(b *strings.Builder, it item) {
	b.WriteString(it.status.sign() + " " + it.name + " " + it.status.String())
	if it.since != 0 {
		b.WriteString(" since " + stamp(v.group.snap.clock.wall(it.since)))
	}
	if it.impact == ImpactDegrading && it.status != StatusPass {
		b.WriteString(", impact degrading")
	}
	if len(it.causes) > 0 {
		fmt.Fprintf(b, ", caused by %s", strings.Join(it.causes, ", "))
	}
	if it.text != "" {
		fmt.Fprintf(b, ": %s", it.text)
	}
	if k := it.fault.Kind; k != KindNone && k != KindUnknown {
		fmt.Fprintf(b, " (%s)", k)
	}
	if it.hungSince != 0 && it.fault.Kind != KindHung {
		fmt.Fprintf(b, ", its probe runs since %s", stamp(v.group.snap.clock.wall(it.hungSince)))
	}
	b.WriteByte('\n')
	if v.only != "" && it.fault.Advice != "" {
		fmt.Fprintf(b, "    %s\n", it.fault.Advice)
	}
}

// document is a page in JSON. It follows draft-inadarei-api-health-check-06 and adds members of its
// own, as the draft allows.
type document struct {
	Status   string                  `json:"status"`
	Group    string                  `json:"group,omitempty"`
	Since    string                  `json:"since,omitempty"`
	Output   string                  `json:"output,omitempty"`
	Advice   string                  `json:"advice,omitempty"`
	Draining bool                    `json:"draining,omitempty"`
	Holds    []documentHold          `json:"holds,omitempty"`
	Checks   map[string][]checkEntry `json:"checks,omitempty"`
	Notes    []string                `json:"notes,omitempty"`
}

type documentHold struct {
	Reason string `json:"reason"`
	Since  string `json:"since"`
}

type checkEntry struct {
	Status    string   `json:"status"`
	State     string   `json:"state,omitempty"` // "unknown" where the draft knows only fail
	Impact    string   `json:"impact,omitempty"`
	Since     string   `json:"since,omitempty"`
	Output    string   `json:"output,omitempty"`
	Kind      Kind     `json:"kind,omitempty"`
	Advice    string   `json:"advice,omitempty"`
	CausedBy  []string `json:"caused_by,omitempty"`
	HungSince string   `json:"hung_since,omitempty"`
}

// wire is the status in the words of the draft, which has none for unknown.
func (s Status) wire() string {
	if s == StatusUnknown {
		s = StatusFail
	}
	return s.String()
}

func (v *view) json() []byte {
	d := document{Status: v.status.wire(), Notes: v.warnings}
	if v.detailed {
		v.fill(&d)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil { // cannot be: strings, a map and a bool
		return briefPage(v.status, jsonText)
	}
	return b.Bytes()
}

func (v *view) fill(d *document) {
	s := v.group.snap
	d.Group = v.group.name
	d.Checks = make(map[string][]checkEntry)
	for _, it := range v.items() {
		d.Checks[it.name] = []checkEntry{v.entry(it)}
	}
	if v.only != "" {
		return
	}
	d.Draining = s.draining
	d.Output, d.Advice = v.reason(), v.advice()
	if len(v.exclude) == 0 {
		d.Since = stamp(s.clock.wall(v.group.since))
	}
	for _, h := range v.holds() {
		d.Holds = append(d.Holds, documentHold{h.reason, stamp(s.clock.wall(h.since))})
	}
}

func (v *view) entry(it item) checkEntry {
	s := v.group.snap
	e := checkEntry{
		Status: it.status.wire(), Output: it.text, Kind: it.fault.Kind, Advice: it.fault.Advice, CausedBy: it.causes,
	}
	if it.status == StatusUnknown {
		e.State = it.status.String()
	}
	if v.group.name != GroupLive {
		e.Impact = it.impact.String()
	}
	if it.since != 0 {
		e.Since = stamp(s.clock.wall(it.since))
	}
	if it.hungSince != 0 {
		e.HungSince = stamp(s.clock.wall(it.hungSince))
	}
	return e
}
