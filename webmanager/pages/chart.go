package pages

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// The space of a chart, in units of its own: the page stretches it to whatever room there is, so nothing in it is text.
const (
	chartWidth, chartHeight = 600.0, 100.0
	// barShare is what a bar takes of the room of its day; leastBar is the least height of one that is not nothing.
	barShare, leastBar = 0.72, 1.5
	// zeroMark is the height of the mark of a day on which nothing happened.
	zeroMark = 0.8
)

// series is one kind of figure, day by day. Its class is what the style sheet colours it by.
type series struct {
	class  string
	values []int64
}

// chart shows figures day by day as bars: up stand on each other above the line, down hang below it, and nothing is drawn of days that were not
// counted but a band. Title and description say for screen readers what it is and what is in it.
type chart struct {
	// id begins the ids of the texts.
	id, title, description string
	counted                []bool
	up, down               []series
}

// niceTop is the end of a scale for values up to n: a digit and zeros, and at least 1.
func niceTop(n int64) int64 {
	for unit := int64(1); ; unit *= 10 {
		for step := int64(1); step < 10; step++ {
			if unit > math.MaxInt64/step {
				return math.MaxInt64
			}
			if n <= unit*step {
				return unit * step
			}
		}
		if unit > math.MaxInt64/10 {
			return math.MaxInt64
		}
	}
}

// most is the highest of the stacks.
func most(stack []series) int64 {
	top := int64(0)
	for i := 0; len(stack) > 0 && i < len(stack[0].values); i++ {
		sum := int64(0)
		for _, s := range stack {
			sum = plus(sum, s.values[i])
		}
		top = max(top, sum)
	}
	return top
}

// plus adds what is not negative, and stays at the highest number.
func plus(a, b int64) int64 {
	if b = max(b, 0); a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Up is where the scale ends above the line, Down where it ends below; 0 where there is nothing to be drawn.
func (c *chart) Up() int64 { return end(c.up) }

// Down is where the scale ends below the line.
func (c *chart) Down() int64 { return end(c.down) }

func end(stack []series) int64 {
	if len(stack) == 0 {
		return 0
	}
	return niceTop(most(stack))
}

// scale is how high one is, and line where the line is on which bars stand and from which they hang: both halves have the same scale.
func (c *chart) scale() (one, line float64) {
	up, down := float64(c.Up()), float64(c.Down())
	one = chartHeight / max(up+down, 1)
	return one, up * one
}

// number writes a coordinate.
func number(x float64) string { return strconv.FormatFloat(math.Round(x*100)/100, 'f', -1, 64) }

// box draws a rectangle as a part of a path.
func box(path *strings.Builder, x, y, width, height float64) {
	path.WriteString("M" + number(x) + " " + number(y) + "h" + number(width) + "v" + number(height) + "h" + number(-width) + "z")
}

// SVG draws the chart. Its classes and numbers are ours, and its texts are escaped.
func (c *chart) SVG() template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %s %s" preserveAspectRatio="none" role="img" aria-labelledby="%[3]s-title" aria-describedby="%[3]s-desc">`+
		`<title id="%[3]s-title">%[4]s</title><desc id="%[3]s-desc">%[5]s</desc>`,
		number(chartWidth), number(chartHeight), c.id, template.HTMLEscapeString(c.title), template.HTMLEscapeString(c.description))
	c.bands(&b)
	one, line := c.scale()
	c.stack(&b, c.up, line, -one)
	c.stack(&b, c.down, line, one)
	b.WriteString(`<path class="axis" d="M0 ` + number(line) + "H" + number(chartWidth) + `"/></svg>`)
	return template.HTML(b.String()) //nolint:gosec // see above
}

// bands draws behind the bars what is to be seen of days without any: a band where nothing was counted, and a mark on the line where nothing
// happened.
func (c *chart) bands(b *strings.Builder) {
	var gaps, zeros strings.Builder
	_, line := c.scale()
	day := chartWidth / float64(max(len(c.counted), 1))
	for i, counted := range c.counted {
		x := float64(i) * day
		if !counted {
			box(&gaps, x, 0, day, chartHeight)
			continue
		}
		sum := int64(0)
		for _, s := range append(c.up[:len(c.up):len(c.up)], c.down...) {
			sum = plus(sum, s.values[i])
		}
		if sum == 0 {
			box(&zeros, x+day*(1-barShare)/2, min(max(line-zeroMark/2, 0), chartHeight-zeroMark), day*barShare, zeroMark)
		}
	}
	draw(b, "gap", &gaps)
	draw(b, "zero", &zeros)
}

// stack draws bars on each other from the line on; scale is units of height for one, negative for upwards.
func (c *chart) stack(b *strings.Builder, stack []series, line, scale float64) {
	day := chartWidth / float64(max(len(c.counted), 1))
	room := chartHeight - line
	if scale < 0 {
		room = line
	}
	ends := make([]float64, len(c.counted))
	for _, s := range stack {
		var path strings.Builder
		for i, value := range s.values {
			if value <= 0 {
				continue
			}
			from := ends[i]
			height := min(max(float64(value)*math.Abs(scale), leastBar), room-from)
			ends[i] += height
			y := line + from
			if scale < 0 {
				y = line - ends[i]
			}
			box(&path, float64(i)*day+day*(1-barShare)/2, y, day*barShare, height)
		}
		draw(b, s.class, &path)
	}
}

// draw writes a path, if there is one.
func draw(b *strings.Builder, class string, path *strings.Builder) {
	if path.Len() > 0 {
		b.WriteString(`<path class="` + class + `" d="` + path.String() + `"/>`)
	}
}

// share is a bar of a part of a whole, for the side of a number that says the same; screen readers pass it over.
func share(class string, part, whole int64) template.HTML {
	width := 0.0
	if part > 0 && whole > 0 {
		width = min(max(float64(part)/float64(whole)*100, 0.5), 100)
	}
	return template.HTML(`<svg class="share" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><path class="rest" d="M0 0h100v1H0z"/>` +
		`<path class="` + class + `" d="M0 0h` + number(width) + `v1H0z"/></svg>`) //nolint:gosec // numbers, and a class of ours
}
