package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"sync"

	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Sizes of a chart in points.
const (
	chartWidth  = 640
	chartHeight = 300
	marginLeft  = 62
	marginRight = 18
	marginTop   = 44
	marginFoot  = 44
	textSize    = 11
	barHeight   = 18
	barLeft     = 190 // room for the names of bars
	pixelsPerIn = 144
)

var (
	ink    = color.NRGBA{0x33, 0x33, 0x33, 0xff}
	faint  = color.NRGBA{0xdd, 0xdd, 0xdd, 0xff}
	others = color.NRGBA{0xb0, 0xb0, 0xb0, 0xff}
	// palette is told apart by those who do not see red and green, too (Okabe and Ito).
	palette = []color.NRGBA{{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}}
)

// typeface is parsed on first use: the daemons that share this binary never draw.
var typeface = sync.OnceValues(func() (font.Face, error) {
	ttf, err := opentype.Parse(goregular.TTF)
	return font.Face{Font: font.Font{Typeface: "Go", Variant: "Sans", Size: textSize}, Face: ttf}, err
})

// PNG draws the chart as an image.
func (c Chart) PNG() ([]byte, error) {
	canvas := vgimg.NewWith(vgimg.UseWH(chartWidth, c.height()), vgimg.UseDPI(pixelsPerIn))
	if err := c.draw(canvas); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(&out)
	return out.Bytes(), err
}

// svgHead is what a file of its own needs and an element within HTML does not: the declarations, and names that look like addresses.
var svgHead = regexp.MustCompile(`(?s)^.*?<svg |\s+xmlns(:xlink)?="[^"]*"`)

// SVG draws the chart as an element of an HTML page, without any reference to anything outside.
func (c Chart) SVG() (template.HTML, error) {
	canvas := vgsvg.New(chartWidth, c.height())
	if err := c.draw(canvas); err != nil {
		return "", err
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	return template.HTML("<svg " + svgHead.ReplaceAllString(out.String(), "")), nil // the canvas escapes the texts
}

func (c Chart) height() vg.Length {
	if len(c.Bars) > 0 {
		return vg.Length(marginTop + marginFoot/2 + barHeight*len(c.Bars))
	}
	return chartHeight
}

// pen draws on a canvas whose origin is at the lower left.
type pen struct {
	vg.Canvas
	face font.Face
}

func (c Chart) draw(canvas vg.Canvas) error {
	face, err := typeface()
	if err != nil {
		return fmt.Errorf("font: %w", err)
	}
	p := pen{canvas, face}
	p.box(0, 0, chartWidth, c.height(), color.White)
	p.text(marginLeft/4, c.height()-16, 0, ink, c.Title)
	if len(c.Bars) > 0 {
		c.drawBars(p)
		return nil
	}
	c.drawLines(p)
	return nil
}

func (c Chart) drawLines(p pen) {
	const width, height = chartWidth - marginLeft - marginRight, chartHeight - marginTop - marginFoot
	x, y := c.spans()
	place := func(px, py float64) vg.Point {
		return vg.Point{X: marginLeft + vg.Length(x.at(px)*width), Y: marginFoot + vg.Length(y.at(py)*height)}
	}
	for _, v := range y.ticks() {
		at := place(x.low, v)
		p.line(faint, 0.5, at, vg.Point{X: chartWidth - marginRight, Y: at.Y})
		p.text(at.X-5, at.Y-4, 1, ink, tickText(v))
	}
	for _, v := range x.ticks() {
		at := place(v, y.low)
		p.line(faint, 0.5, at, vg.Point{X: at.X, Y: chartHeight - marginTop})
		p.text(at.X, at.Y-14, 0.5, ink, tickText(v))
	}
	p.text(marginLeft+width/2, 8, 0.5, ink, c.X)
	p.text(marginLeft/4, chartHeight-marginTop+12, 0, ink, c.Y)
	right := vg.Length(chartWidth - marginRight)
	for i := len(c.Series) - 1; i >= 0; i-- {
		s, shade := c.Series[i], palette[i%len(palette)]
		var line []vg.Point
		for _, pt := range s.Points {
			if !c.LogX || pt[0] > 0 {
				line = append(line, place(pt[0], pt[1]))
			}
		}
		p.line(shade, 1.6, line...)
		right -= p.face.Width(s.Name) + 12
		p.text(right, chartHeight-marginTop+12, 0, shade, s.Name)
	}
}

func (c Chart) drawBars(p pen) {
	most := 0.0
	for _, b := range c.Bars {
		most = max(most, b.Value)
	}
	const room = chartWidth - barLeft - 90
	for i, b := range c.Bars {
		base := c.height() - marginTop - vg.Length((i+1)*barHeight) + 4
		shade := others
		if b.Ours {
			shade = palette[0]
		}
		long := vg.Length(0)
		if most > 0 {
			long = vg.Length(max(0, b.Value) / most * room)
		}
		p.text(barLeft-8, base+3, 1, ink, b.Name)
		p.box(barLeft, base, long, barHeight-5, shade)
		p.text(barLeft+long+6, base+3, 0, ink, number(b.Value))
	}
	p.text(barLeft, 8, 0, ink, c.Y)
}

func (p pen) line(shade color.Color, width vg.Length, points ...vg.Point) {
	if len(points) < 2 {
		return
	}
	var path vg.Path
	path.Move(points[0])
	for _, pt := range points[1:] {
		path.Line(pt)
	}
	p.SetColor(shade)
	p.SetLineWidth(width)
	p.Stroke(path)
}

func (p pen) box(x, y, width, height vg.Length, shade color.Color) {
	var path vg.Path
	path.Move(vg.Point{X: x, Y: y})
	path.Line(vg.Point{X: x + width, Y: y})
	path.Line(vg.Point{X: x + width, Y: y + height})
	path.Line(vg.Point{X: x, Y: y + height})
	path.Close()
	p.SetColor(shade)
	p.Fill(path)
}

// text writes with x at the text's start (align 0), middle (0.5) or end (1).
func (p pen) text(x, y, align vg.Length, shade color.Color, text string) {
	p.SetColor(shade)
	p.FillString(p.face, vg.Point{X: x - align*p.face.Width(text), Y: y}, text)
}
