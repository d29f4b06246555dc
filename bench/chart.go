package main

import (
	"html/template"
	"os"
)

// chart is a bar for each variant, in panels that each have a scale of their own.
var chart = template.Must(template.New("").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {{.Height}}" font-family="system-ui, sans-serif" font-size="13">
<title>Processor time of each proxy</title>
<rect width="720" height="{{.Height}}" fill="#fff"/>
{{- range .Panels}}
<text x="12" y="{{.Y}}" font-weight="bold" fill="#222">{{.Title}}</text>
{{- range .Bars}}
<text x="100" y="{{.Text}}" text-anchor="end" fill="#222">{{.Name}}</text>
<rect x="108" y="{{.Y}}" width="{{.Width}}" height="16" fill="{{.Fill}}"/>
<text x="{{.End}}" y="{{.Text}}" fill="#222">{{.Label}}</text>
{{- end}}
{{- end}}
</svg>
`))

type panel struct {
	Title string
	Y     int
	Bars  []bar
}

type bar struct {
	Name, Label, Fill   string
	Y, Text, Width, End int
}

// Sizes of the chart, in its own units.
const (
	rowHeight = 22
	barLeft   = 108
	barMost   = 500 // the longest
)

// charted are the workloads that it shows.
func charted() []string {
	return []string{"get-h1-64", "get-h2-64", "connect-full", "connect-resumed"}
}

// writeChart draws the processor time that each proxy takes.
func (r *results) writeChart(name string) error {
	var panels []panel
	y := 0
	for _, w := range r.Workloads {
		for _, wanted := range charted() {
			if w.Name == wanted {
				panels = append(panels, r.panel(w, y))
				y += (len(panels[len(panels)-1].Bars) + 2) * rowHeight
			}
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := chart.Execute(f, map[string]any{"Height": y, "Panels": panels}); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// panel is the chart of one workload, from y on downwards.
func (r *results) panel(w workload, y int) panel {
	p := panel{Title: w.Name + ": CPU time per " + w.Unit, Y: y + rowHeight}
	values := map[string]float64{}
	longest := 0.0
	for _, v := range r.Variants {
		if value, ok := r.series(w.Name, v.Name, cpu).median(); ok {
			values[v.Name] = value
			longest = max(longest, value)
		}
	}
	for _, v := range r.Variants {
		value, ok := values[v.Name]
		if !ok {
			continue
		}
		top := p.Y + 8 + len(p.Bars)*rowHeight
		width := int(barMost * value / longest)
		b := bar{Name: v.Name, Label: latency(value), Fill: "#9aa7b4", Y: top, Text: top + 13, Width: width, End: barLeft + width + 6}
		if v.Name == "attache" {
			b.Fill = "#0b6e4f"
		}
		p.Bars = append(p.Bars, b)
	}
	return p
}
