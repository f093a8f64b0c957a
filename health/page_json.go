package health

import (
	"bytes"
	"encoding/json"
)

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
		return briefPage(v.status, jsonFormat)
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
		d.Since = stamp(s.wall(v.group.since))
	}
	for _, h := range v.holds() {
		d.Holds = append(d.Holds, documentHold{h.reason, stamp(s.wall(h.since))})
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
		e.Since = stamp(s.wall(it.since))
	}
	if it.hungSince != 0 {
		e.HungSince = stamp(s.wall(it.hungSince))
	}
	return e
}
