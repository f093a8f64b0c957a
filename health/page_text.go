package health

import (
	"fmt"
	"strings"
)

// briefPage is what everybody may see.
func briefPage(s Status, f format) []byte {
	if f != plain {
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
			fmt.Fprintf(&b, "[-] held since %s: %s\n", stamp(v.group.snap.wall(h.since)), h.reason)
		}
	} else {
		b.Write(briefPage(v.status, plain))
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
		fmt.Fprintf(b, " since %s", stamp(v.group.snap.wall(v.group.since)))
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
		b.WriteString(" since " + stamp(v.group.snap.wall(it.since)))
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
		fmt.Fprintf(b, ", its probe runs since %s", stamp(v.group.snap.wall(it.hungSince)))
	}
	b.WriteByte('\n')
	if v.only != "" && it.fault.Advice != "" {
		fmt.Fprintf(b, "    %s\n", it.fault.Advice)
	}
}
