package pages

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rect is a bar as it was drawn.
type rect struct {
	class               string
	x, y, width, height float64
}

var (
	boxPath  = regexp.MustCompile(`^M(-?[0-9.]+) (-?[0-9.]+)h(-?[0-9.]+)v(-?[0-9.]+)h(-?[0-9.]+)z`)
	linePath = regexp.MustCompile(`^M0 ([0-9.]+)H600$`)
)

// drawn reads a chart back. Everything in it must be well formed, of boxes and of one line.
func drawn(t interface {
	Fatalf(string, ...any)
}, svg string) (boxes []rect, line float64) {
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return boxes, line
		}
		if err != nil {
			t.Fatalf("%v: %s", err, svg)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "path" {
			continue
		}
		at := map[string]string{}
		for _, a := range start.Attr {
			at[a.Name.Local] = a.Value
		}
		if found := linePath.FindStringSubmatch(at["d"]); found != nil {
			line, _ = strconv.ParseFloat(found[1], 64)
			continue
		}
		for rest := at["d"]; rest != ""; {
			found := boxPath.FindStringSubmatch(rest)
			if found == nil {
				t.Fatalf("%q is no box", rest)
			}
			var n [5]float64
			for i := range n {
				n[i], _ = strconv.ParseFloat(found[i+1], 64)
			}
			if n[2] != -n[4] {
				t.Fatalf("%q does not close", found[0])
			}
			boxes = append(boxes, rect{at["class"], n[0], n[1], n[2], n[3]})
			rest = rest[len(found[0]):]
		}
	}
}

func TestNiceTop(t *testing.T) {
	for n, want := range map[int64]int64{
		math.MinInt64: 1, -1: 1, 0: 1, 1: 1, 2: 2, 9: 9, 10: 10, 11: 20, 19: 20, 20: 20, 21: 30, 99: 100, 100: 100, 101: 200, 999: 1000, 1001: 2000,
		8e18: 8e18, 9e18: 9e18, 9e18 + 1: math.MaxInt64, math.MaxInt64: math.MaxInt64,
	} {
		if got := niceTop(n); got != want {
			t.Errorf("%d: %d, want %d", n, got, want)
		}
	}
}

// TestChart: a chart with known figures, octet by octet.
func TestChart(t *testing.T) {
	c := chart{
		id: "x", title: "a < b", description: `"d"`, counted: []bool{true, true, false, true},
		up: []series{{"in", []int64{10, 0, 0, 5}}, {"out", []int64{0, 0, 0, 5}}}, down: []series{{"lost", []int64{0, 0, 0, 10}}},
	}
	want := `<svg class="chart" viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-labelledby="x-title" aria-describedby="x-desc">` +
		`<title id="x-title">a &lt; b</title><desc id="x-desc">&#34;d&#34;</desc>` +
		`<path class="gap" d="M300 0h150v100h-150z"/><path class="zero" d="M171 49.6h108v0.8h-108z"/>` +
		`<path class="in" d="M21 0h108v50h-108zM471 25h108v25h-108z"/><path class="out" d="M471 0h108v25h-108z"/>` +
		`<path class="lost" d="M471 50h108v50h-108z"/><path class="axis" d="M0 50H600"/></svg>`
	if got := string(c.SVG()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if c.Up() != 10 || c.Down() != 10 {
		t.Errorf("the scale ends at %d and %d", c.Up(), c.Down())
	}
}

// TestChartOfNothing: no days, or none with a figure, are a chart too.
func TestChartOfNothing(t *testing.T) {
	for _, days := range []int{0, 1, 30} {
		values, counted := make([]int64, days), make([]bool, days)
		c := chart{counted: counted, up: []series{{"in", values}}}
		boxes, line := drawn(t, string(c.SVG()))
		if len(boxes) != days || line != 100 {
			t.Errorf("%d days that were not counted: %d boxes, line at %v", days, len(boxes), line)
		}
		for i := range counted {
			counted[i] = true
		}
		for _, b := range func() []rect { boxes, _ := drawn(t, string(c.SVG())); return boxes }() {
			if b.class != "zero" || b.y != 100-zeroMark || b.height != zeroMark {
				t.Errorf("a day of nothing: %+v", b)
			}
		}
	}
}

// TestChartProperties: whatever the figures are, they make numbers, all bars are inside and on the right side of the line, and there is one for each
// figure that is not nothing.
func TestChartProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.IntRange(1, 60).Draw(t, "days")
		value := rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 1000), rapid.Int64())
		draw := func(n int, classes ...string) (list []series) {
			for _, class := range classes[:n] {
				list = append(list, series{class, rapid.SliceOfN(value, days, days).Draw(t, class)})
			}
			return list
		}
		c := chart{id: "x", counted: rapid.SliceOfN(rapid.Bool(), days, days).Draw(t, "counted"),
			up:   draw(rapid.IntRange(0, 3).Draw(t, "up"), "a", "b", "c"),
			down: draw(rapid.IntRange(0, 2).Draw(t, "down"), "d", "e")}
		svg := string(c.SVG())
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || strings.Contains(svg, "e+") {
			t.Fatalf("%s", svg)
		}
		boxes, line := drawn(t, svg)
		seen := map[string]bool{}
		const slack = 0.02 // coordinates are rounded
		for _, b := range boxes {
			if b.x < -slack || b.y < -slack || b.width <= 0 || b.height < 0 || b.x+b.width > 600+slack || b.y+b.height > 100+slack {
				t.Fatalf("%+v is outside", b)
			}
			switch up := strings.Contains("abc", b.class); {
			case b.class == "gap", b.class == "zero":
				continue
			case up && b.y+b.height > line+slack, !up && b.y < line-slack:
				t.Fatalf("%+v is on the wrong side of %v", b, line)
			}
			seen[fmt.Sprint(b.class, int((b.x+b.width/2)/(600/float64(days))))] = true
		}
		for _, s := range append(c.up[:len(c.up):len(c.up)], c.down...) {
			for i, v := range s.values {
				if (v > 0) != seen[fmt.Sprint(s.class, i)] {
					t.Fatalf("%d of %s on day %d is drawn: %t", v, s.class, i, v <= 0)
				}
			}
		}
	})
}

// TestShare: a part of a whole is a bar from nothing to all, which is to be seen if there is anything.
func TestShare(t *testing.T) {
	for _, tt := range []struct {
		part, whole int64
		width       string
	}{
		{0, 0, "0"}, {0, 10, "0"}, {-5, 10, "0"}, {5, 0, "0"}, {1, 1_000_000, "0.5"}, {5, 10, "50"}, {10, 10, "100"}, {11, 10, "100"},
		{math.MaxInt64, math.MaxInt64, "100"}, {1, 3, "33.33"},
	} {
		if got := string(share("in", tt.part, tt.whole)); !strings.Contains(got, `<path class="in" d="M0 0h`+tt.width+`v1H0z"/>`) {
			t.Errorf("%d of %d: %s, want %s", tt.part, tt.whole, got, tt.width)
		}
	}
}

// TestPlus: a sum stays at the highest number, and what is negative adds nothing.
func TestPlus(t *testing.T) {
	for _, tt := range [][3]int64{{1, 2, 3}, {5, -3, 5}, {0, math.MinInt64, 0}, {math.MaxInt64, 1, math.MaxInt64}, {math.MaxInt64 - 1, 1, math.MaxInt64}} {
		if got := plus(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%d and %d: %d, want %d", tt[0], tt[1], got, tt[2])
		}
	}
}

// TestSmallBarIsSeen: a figure that is not nothing has a bar that can be seen beside one that is a million times as high, above the line and below it.
func TestSmallBarIsSeen(t *testing.T) {
	values := []series{{class: "in", values: []int64{1, 1_000_000}}}
	for name, c := range map[string]chart{
		"above": {id: "x", counted: []bool{true, true}, up: values}, "below": {id: "x", counted: []bool{true, true}, down: values},
	} {
		if svg := string(c.SVG()); !strings.Contains(svg, "v"+number(leastBar)+"h") || !strings.Contains(svg, "v"+number(chartHeight)+"h") {
			t.Errorf("%s the line: %s", name, svg)
		}
	}
}
