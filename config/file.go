package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Bounds of the file.
const (
	// MaxFileSize is in octets.
	MaxFileSize = 64 << 10
	// maxSyntaxMistakes bounds how often reading goes on after a line that is no TOML.
	maxSyntaxMistakes = 50
)

// outline has the file's tables and no keys, so that strict decoding reports every key of the file with its line.
type outline struct {
	Listen struct{} `toml:"listen"`
	TLS    struct{} `toml:"tls"`
	ACME   struct{} `toml:"acme"`
	Log    struct{} `toml:"log"`
	Limits struct{} `toml:"limits"`
	Relay  struct{} `toml:"relay"`
	Web    struct{} `toml:"web"`
}

// entry is one key of the file.
type entry struct {
	name string
	line int
}

// fileMistake is a Mistake before its line is put in words.
type fileMistake struct {
	line int
	text string
}

// readFile sets the keys of the file, and reports every mistake in it in order of lines.
func (l *loader) readFile(path string) {
	data, err := readBounded(path)
	if err != nil {
		l.mistake(path, "cannot be read: %v", err)
		return
	}
	entries, values, mistakes := parse(data)
	keys := map[string]Key{}
	for _, k := range Keys() {
		keys[k.Name] = k
	}
	for _, e := range entries {
		e.name = qualify(values, e.name)
		k, known := keys[e.name]
		if !known {
			mistakes = append(mistakes, fileMistake{e.line, "unknown key " + e.name + suggest(e.name)})
			continue
		}
		l.origin[k.Name] = fmt.Sprintf("%s:%d", path, e.line)
		value, err := k.kind.asText(lookup(values, e.name))
		if err == nil {
			err = k.set(&l.config, value)
		}
		if err != nil {
			l.bad[k.Name] = true
			mistakes = append(mistakes, fileMistake{e.line, fmt.Sprintf("%s: %v", k.Name, err)})
		}
	}
	slices.SortStableFunc(mistakes, func(a, b fileMistake) int { return a.line - b.line })
	for _, m := range mistakes {
		l.mistake(fmt.Sprintf("%s:%d", path, m.line), "%s", m.text)
	}
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer func() { _ = f.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err == nil && len(data) > MaxFileSize {
		err = fmt.Errorf("larger than %d octets", MaxFileSize)
	}
	return data, err
}

// parse lists the keys of the file with their lines, and their values. TOML parsers stop at the first mistake; so the line of each
// mistake is blanked and the rest read again.
func parse(data []byte) (entries []entry, values map[string]any, mistakes []fileMistake) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	for {
		text := bytes.Join(lines, nil)
		var o outline
		err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&o)
		var strict *toml.StrictMissingError
		var wrong *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			for _, e := range strict.Errors {
				line, _ := e.Position()
				entries = append(entries, entry{strings.Join(e.Key(), "."), line})
			}
		case errors.As(err, &wrong):
			line, _ := wrong.Position()
			i := min(max(line-1, 0), len(lines)-1)
			mistakes = append(mistakes, fileMistake{i + 1, strings.TrimPrefix(wrong.Error(), "toml: ")})
			if len(mistakes) == maxSyntaxMistakes || len(bytes.TrimSpace(lines[i])) == 0 {
				return nil, nil, mistakes // nothing left to blank there
			}
			lines[i] = []byte("\n")
			continue
		case err != nil:
			return nil, nil, append(mistakes, fileMistake{1, err.Error()})
		}
		if err := toml.Unmarshal(text, &values); err != nil {
			return nil, nil, append(mistakes, fileMistake{1, err.Error()})
		}
		return entries, values, mistakes
	}
}

// qualify puts the table before a key that was reported without it: strict decoding does so within inline tables.
func qualify(values map[string]any, name string) string {
	if _, ok := values[name]; ok || strings.Contains(name, ".") {
		return name
	}
	for _, table := range slices.Sorted(maps.Keys(values)) {
		if inner, ok := values[table].(map[string]any); ok && inner[name] != nil {
			return table + "." + name
		}
	}
	return name
}

func lookup(values map[string]any, name string) any {
	table, key, nested := strings.Cut(name, ".")
	if !nested {
		return values[name]
	}
	inner, _ := values[table].(map[string]any)
	return inner[key]
}

// asText turns a value of the file into the text that a flag would give.
func (k kind) asText(value any) (string, error) {
	switch v := value.(type) {
	case string:
		if k != number {
			return v, nil
		}
	case int64:
		if k == number {
			return fmt.Sprint(v), nil
		}
	case []any:
		if k == addresses {
			return joinTexts(v)
		}
	}
	switch k {
	case number:
		return "", errors.New("must be a whole number, without quotes")
	case addresses:
		return "", errors.New("must be a text in quotes, or a list of them")
	default:
		return "", errors.New("must be a text in quotes")
	}
}

func joinTexts(list []any) (string, error) {
	texts := make([]string, len(list))
	for i, one := range list {
		s, ok := one.(string)
		if !ok || s == "" {
			return "", errors.New("must be a list of texts in quotes, none of them empty")
		}
		texts[i] = s
	}
	return strings.Join(texts, ","), nil
}

// suggest names the known key that a misspelt one is nearest to, if one is near.
func suggest(name string) string {
	best, least := "", 3
	for _, k := range Keys() {
		if d := distance(name, k.Name); d < least {
			best, least = k.Name, d
		}
		if _, last, ok := strings.Cut(k.Name, "."); ok && last == name {
			return fmt.Sprintf("; it belongs under [%s]", strings.TrimSuffix(k.Name, "."+last))
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the number of octets to insert, drop or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
