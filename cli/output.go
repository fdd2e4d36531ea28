package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// printJSON prints one value, indented.
func (env *Env) printJSON(v any) error {
	e := json.NewEncoder(env.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable prints rows under a heading, in columns.
func (env *Env) printTable(heading []string, rows [][]string) error {
	return env.newTable(heading).print(rows)
}

// columnGap is put between columns.
const columnGap = 2

// table prints rows as they come, so that a listing of any length needs little memory. A column is as wide as its widest cell so far.
type table struct {
	out    io.Writer
	widths []int
	heads  []string // nil once it was printed
}

func (env *Env) newTable(heading []string) *table {
	return &table{out: env.Stdout, widths: make([]int, len(heading)), heads: heading}
}

// print prints some more rows, and the heading before the first; no rows print a heading alone.
func (t *table) print(rows [][]string) error {
	if t.heads != nil {
		rows = append([][]string{t.heads}, rows...)
		t.heads = nil
	}
	cells := make([][]string, len(rows))
	for r, row := range rows {
		cells[r] = make([]string, len(row))
		for c, cell := range row {
			cells[r][c] = printable(cell)
			for c >= len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[c] = max(t.widths[c], utf8.RuneCountInString(cells[r][c]))
		}
	}
	w := bufio.NewWriter(t.out)
	for _, row := range cells {
		var line strings.Builder
		for c, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", t.widths[c]-utf8.RuneCountInString(cell)+columnGap))
		}
		_, _ = w.WriteString(strings.TrimRight(line.String(), " ") + "\n") // Flush reports it
	}
	return w.Flush()
}

// jsonArray prints an array element by element, in the form of printJSON.
type jsonArray struct {
	out   io.Writer
	begun bool
}

// print prints some more elements.
func (a *jsonArray) print(v any) error {
	var text bytes.Buffer
	text.WriteString(",\n  ")
	if !a.begun {
		text.Reset()
		text.WriteString("[\n  ")
		a.begun = true
	}
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("  ", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := a.out.Write(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return err
}

// end prints the array's end.
func (a *jsonArray) end() error {
	text := "\n]\n"
	if !a.begun {
		text = "[]\n"
	}
	_, err := io.WriteString(a.out, text)
	return err
}

// printable shows control characters as "?": senders choose Message-IDs and remote servers choose replies, and neither may write
// on a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, text)
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// orDash stands in for what is not there.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
