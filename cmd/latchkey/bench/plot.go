//go:build linux

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The plot's place on its canvas, in pixels.
const (
	plotWidth, plotHeight     = 900, 460
	plotLeft, plotTop         = 60, 30
	plotRight, plotBottom     = 500, 410
	labelHeight               = 16
	plotFont                  = `font-family="sans-serif" font-size="12"`
	leastMillis, leastDecades = 0.01, 1
)

// plotColours are told apart by people who see few colours, and on paper.
func plotColours() []string {
	return []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#332288", "#888888", "#000000", "#aa4499"}
}

// plot draws the latencies over the number of messages, both on logarithmic scales, as SVG.
func plot(points []growthPoint) string {
	low, high := math.Inf(1), math.Inf(-1)
	var curves []growthMeasure
	for _, m := range growthMeasures() {
		if !m.plotted {
			continue
		}
		curves = append(curves, m)
		for _, p := range points {
			low, high = min(low, millisOf(p, m)), max(high, millisOf(p, m))
		}
	}
	x := axis{from: math.Log10(float64(points[0].messages)), to: math.Log10(float64(points[len(points)-1].messages)), at: plotLeft, end: plotRight}
	y := axis{from: math.Floor(math.Log10(low)), to: math.Ceil(math.Log10(high)), at: plotBottom, end: plotTop}
	x.to, y.to = max(x.to, x.from+leastDecades), max(y.to, y.from+leastDecades)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" %s>`+"\n", plotWidth, plotHeight, plotFont)
	fmt.Fprintf(&b, `<title>Latency over the number of stored messages</title><rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	drawGrid(&b, x, y)
	drawCurves(&b, x, y, points, curves)
	b.WriteString("</svg>\n")
	return b.String()
}

// axis maps logarithms to pixels.
type axis struct{ from, to, at, end float64 }

func (a axis) place(v float64) float64 { return a.at + (v-a.from)/(a.to-a.from)*(a.end-a.at) }

// millisOf is a latency, at least what can be drawn.
func millisOf(p growthPoint, m growthMeasure) float64 { return max(p.figures[m.title], leastMillis) }

func drawGrid(b *strings.Builder, x, y axis) {
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
	}
	for d := math.Ceil(x.from); d <= x.to; d++ {
		line(x.place(d), plotTop, x.place(d), plotBottom)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x.place(d), plotBottom+18, figure(math.Pow(10, d)))
	}
	for d := y.from; d <= y.to; d++ {
		line(plotLeft, y.place(d), plotRight, y.place(d))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft-6, y.place(d)+4, figure(math.Pow(10, d)))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d">milliseconds</text><text x="%d" y="%d" text-anchor="middle">messages in the store</text>`+"\n",
		6, plotTop-12, (plotLeft+plotRight)/2, plotBottom+38)
}

// drawCurves draws the curves, and at their ends what they are: in the order in which they end, and not over each other.
func drawCurves(b *strings.Builder, x, y axis, points []growthPoint, curves []growthMeasure) {
	last := points[len(points)-1]
	colours := plotColours()
	type label struct {
		y      float64
		text   string
		colour string
	}
	var labels []label
	for i, m := range curves {
		var path []string
		for _, p := range points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x.place(math.Log10(float64(p.messages))), y.place(math.Log10(millisOf(p, m)))))
		}
		colour := colours[i%len(colours)]
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), colour)
		labels = append(labels, label{y.place(math.Log10(millisOf(last, m))), m.title, colour})
	}
	slices.SortStableFunc(labels, func(a, c label) int { return cmp.Compare(a.y, c.y) })
	above := math.Inf(-1)
	for i, l := range labels {
		lowest := float64(plotBottom - (len(labels)-1-i)*labelHeight)
		at := max(min(l.y, lowest), above+labelHeight)
		above = at
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`, x.place(math.Log10(float64(last.messages))), l.y, plotRight+14, at, l.colour)
		fmt.Fprintf(b, `<text x="%d" y="%.1f">%s</text>`+"\n", plotRight+18, at+4, l.text)
	}
}

// curveTable is the whole of part e in Markdown: a row for each measure, a column for each size of the store.
func curveTable(points []growthPoint) string {
	var b strings.Builder
	b.WriteString("| messages in the store |")
	for _, p := range points {
		b.WriteString(" " + grouped(int64(p.messages)) + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(points)) + "\n")
	for _, m := range growthMeasures() {
		fmt.Fprintf(&b, "| %s, %s |", m.title, m.unit)
		for _, p := range points {
			b.WriteString(" " + figure(p.figures[m.title]) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
