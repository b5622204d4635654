package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
)

//go:embed report.tmpl
var pageText string

// page is what the template sees.
type page struct {
	*Report
	Drawings []template.HTML
}

// Label is a figure's name, with its scenario where the report has several.
func (p page) Label(f Figure) string { return p.label(f) }

// HTML is the report as one page: charts are drawn in it, and it refers to nothing outside.
func (r *Report) HTML() ([]byte, error) {
	layout, err := template.New("report").Parse(pageText) // here, since the daemons that share this binary never need it
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	p := page{Report: r}
	for _, c := range r.Charts {
		svg, err := c.SVG()
		if err != nil {
			return nil, fmt.Errorf("chart %s: %w", c.Name, err)
		}
		p.Drawings = append(p.Drawings, svg)
	}
	var out bytes.Buffer
	if err := layout.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return out.Bytes(), nil
}
