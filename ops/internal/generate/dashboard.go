package generate

import (
	"encoding/json"

	"github.com/poolkeeper/poolkeeper/internal/measure"
)

// The parts of Grafana's dashboard model that are used here:
// https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/

type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Editable      bool       `json:"editable"`
	Refresh       string     `json:"refresh"`
	Time          timeRange  `json:"time"`
	Templating    templating `json:"templating"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"`
	Query      string      `json:"query"`
	Datasource *datasource `json:"datasource,omitempty"`
	Refresh    int         `json:"refresh,omitempty"` // 2: when the time range changes
	IncludeAll bool        `json:"includeAll,omitempty"`
	Multi      bool        `json:"multi,omitempty"`
	AllValue   string      `json:"allValue,omitempty"`
	Sort       int         `json:"sort,omitempty"` // 1: by name
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int          `json:"id"`
	Type        string       `json:"type"`
	Title       string       `json:"title"`
	Description string       `json:"description,omitempty"`
	Datasource  *datasource  `json:"datasource,omitempty"`
	GridPos     gridPos      `json:"gridPos"`
	FieldConfig *fieldConfig `json:"fieldConfig,omitempty"`
	Targets     []target     `json:"targets,omitempty"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []any         `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string      `json:"unit"`
	Min        *int        `json:"min,omitempty"`
	Thresholds *thresholds `json:"thresholds,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type target struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
	Instant      bool   `json:"instant,omitempty"`
}

func prometheusSource() *datasource { return &datasource{"prometheus", "${datasource}"} }

// grid is how many columns a dashboard has.
const grid = 24

// Dashboard returns dashboard.json.
func Dashboard() string {
	d := dashboard{
		UID: "poolkeeper", Title: "poolkeeper", Tags: []string{"poolkeeper"}, SchemaVersion: 39, Editable: true,
		Description: "Pools, checks and components of a service. Written by go test ./ops -update.",
		Refresh:     "30s", Time: timeRange{"now-3h", "now"}, Templating: templating{variables()},
	}
	y, id := 0, 0
	for _, r := range Rows() {
		id++
		d.Panels = append(d.Panels, panel{ID: id, Type: "row", Title: r.Title, GridPos: gridPos{1, grid, 0, y}})
		y++
		x, height := 0, 0
		for _, p := range r.Panels {
			if x+p.Width > grid {
				x, y = 0, y+height
			}
			id++
			d.Panels = append(d.Panels, p.model(id, gridPos{p.height(), p.Width, x, y}))
			x, height = x+p.Width, p.height()
		}
		y += height
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return string(text) + "\n"
}

func variables() []variable {
	values := func(name, label, query string) variable {
		return variable{
			Name: name, Label: label, Type: "query", Query: query, Datasource: prometheusSource(),
			Refresh: 2, IncludeAll: true, Multi: true, AllValue: ".*", Sort: 1,
		}
	}
	return []variable{
		{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"},
		values(job, "Service", "label_values("+measure.Phase.Name+", "+job+")"),
		values(instance, "Instance", "label_values("+of(measure.Phase, chosenJob)+", "+instance+")"),
		values("pool", "Pool", "label_values("+of(measure.IdleMin, chosenJob)+", "+measure.LabelPool+")"),
	}
}

// model makes Grafana's panel of ours.
func (p *Panel) model(id int, at gridPos) panel {
	zero := 0
	defaults := fieldDefaults{Unit: p.Unit, Min: &zero}
	if p.Bad > 0 {
		defaults.Thresholds = &thresholds{"absolute", []step{{"green", nil}, {"red", &p.Bad}}}
	}
	out := panel{
		ID: id, Type: p.kind(), Title: p.Title, Description: p.Help, Datasource: prometheusSource(), GridPos: at,
		FieldConfig: &fieldConfig{Defaults: defaults, Overrides: []any{}},
	}
	for i, q := range p.Queries {
		out.Targets = append(out.Targets, target{
			RefID: string(rune('A' + i)), Expr: q.Expr, LegendFormat: q.Legend, Instant: p.Stat,
		})
	}
	return out
}

func (p *Panel) kind() string {
	if p.Stat {
		return "stat"
	}
	return "timeseries"
}

func (p *Panel) height() int {
	if p.Stat {
		return 4
	}
	return 8
}
