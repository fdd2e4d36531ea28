//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// us is our own name in figures; every other name is what we are compared with.
const us = "Latchkey"

// bound is what is wanted of a ratio, or of our own figure. The zero bound wants nothing.
type bound struct {
	op    string // "≥", "≤" or "<"
	value float64
	// own is set when our figure is judged by itself.
	own bool
}

func atLeast(ratio float64) bound { return bound{op: "≥", value: ratio} }
func atMost(ratio float64) bound  { return bound{op: "≤", value: ratio} }
func below(ratio float64) bound   { return bound{op: "<", value: ratio} }

// alone judges our figure by itself.
func (b bound) alone() bound {
	b.own = true
	return b
}

func (b bound) holds(v float64) bool {
	switch b.op {
	case "≥":
		return v >= b.value
	case "≤":
		return v <= b.value
	}
	return v < b.value
}

func (b bound) String() string {
	if b.op == "" {
		return ""
	}
	return b.op + " " + figure(b.value)
}

// row is one line of the table.
type row struct {
	part          byte
	measure, unit string
	// against names the other, or is empty.
	against string
	want    bound
}

// sheet collects figures of all rounds, and the rows that are made of them.
type sheet struct {
	figures map[[2]string][]float64 // by measure and server
	rows    []row
}

func newSheet() *sheet { return &sheet{figures: make(map[[2]string][]float64)} }

// note keeps one figure of one round.
func (s *sheet) note(measure, server string, v float64) {
	key := [2]string{measure, server}
	s.figures[key] = append(s.figures[key], v)
}

// want adds a row, once.
func (s *sheet) want(r row) {
	if !slices.Contains(s.rows, r) {
		s.rows = append(s.rows, r)
	}
}

// value is the median of a measure, NaN if there is none.
func (s *sheet) value(measure, server string) float64 {
	return median(s.figures[[2]string{measure, server}])
}

// cells are the texts of one row, the last one the verdict: ok, short, not measured, or nothing if nothing is wanted.
func (s *sheet) cells(r row) [7]string {
	ours, theirs := s.value(r.measure, us), math.NaN()
	if r.against != "" {
		theirs = s.value(r.measure, r.against)
	}
	judged := ours / theirs
	ratio := figure(judged)
	if r.against == "" || r.want.own {
		judged = ours
	}
	if r.against == "" {
		ratio = ""
	}
	verdict := ""
	switch {
	case r.want.op == "":
	case math.IsNaN(judged):
		verdict = "not measured"
	case r.want.holds(judged):
		verdict = "ok"
	default:
		verdict = "short"
	}
	measure := r.measure
	if r.unit != "" {
		measure += ", " + r.unit
	}
	against, other := r.against, figure(theirs)
	if against == "" {
		other = ""
	}
	return [7]string{measure, figure(ours), against, other, ratio, r.want.String(), verdict}
}

var heads = [7]string{"measure", us, "beside", "theirs", "ratio", "wanted", ""}

// print writes all rows as text, and what became of those that want something.
func (s *sheet) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\t"+strings.Join(heads[:], "\t"))
	verdicts := make(map[string]int)
	rows := slices.Clone(s.rows)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.part, b.part) })
	for _, r := range rows {
		cells := s.cells(r)
		fmt.Fprintf(t, "%c\t%s\n", r.part, strings.Join(cells[:], "\t"))
		verdicts[cells[len(cells)-1]]++
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "wanted: %d ok, %d short, %d not measured\n", verdicts["ok"], verdicts["short"], verdicts["not measured"])
	return err
}

// markdown is the table of one part.
func (s *sheet) markdown(part byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|---|---:|---|---:|---:|---:|---|\n", strings.Join(heads[:], " | "))
	for _, r := range s.rows {
		if r.part == part {
			cells := s.cells(r)
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells[:], " | "))
		}
	}
	return b.String()
}

// fillBlock replaces what lies between the marks of one block of a document.
func fillBlock(doc, name, text string) (string, error) {
	begin, end := "<!-- bench "+name+" -->\n", "<!-- /bench "+name+" -->"
	head, rest, ok := strings.Cut(doc, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("the document has no block %q", name)
	}
	return head + begin + text + end + tail, nil
}

// figure writes a number with three significant digits, or all of them before the point, in groups of three.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case a >= 99.95:
		return grouped(int64(math.Round(v)))
	case a >= 9.995:
		return trimmed(v, 1)
	case a >= 0.9995 || v == 0:
		return trimmed(v, 2)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

func trimmed(v float64, digits int) string {
	text := fmt.Sprintf("%.*f", digits, v)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// median of figures in any order; NaN if there are none.
func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// quantile of durations in any order, in milliseconds, by the nearest rank; NaN if there are none.
func quantile(list []time.Duration, p float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(list))
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return millis(sorted[max(i, 0)])
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
