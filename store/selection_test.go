package store

import (
	"errors"
	"testing"
)

// TestParseSelect: every selection has one text, and both ends of each bound hold.
func TestParseSelect(t *testing.T) {
	for text, want := range map[string]Selection{
		"": {}, "new": {New: true}, "1d": {Days: 1}, "7d": {Days: 7}, "3650d": {Days: 3650},
		"max=1": {Max: 1}, "max=200": {Max: 200}, "max=1000000": {Max: 1_000_000},
	} {
		if got, err := ParseSelect(text); err != nil || got != want {
			t.Errorf("ParseSelect(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"all", "New", "new ", " new", "0d", "3651d", "07d", "+7d", "-7d", "7", "d", "7D", "7 d", "1_0d", "٧d", "0x7d", "7d7d", "99999999999999999999d",
		"max=0", "max=1000001", "max=01", "max=+1", "max=-1", "max=", "max", "max=1d", "MAX=1", "max = 1", "max=1_0", "max=99999999999999999999", "\x00",
	} {
		if got, err := ParseSelect(text); !errors.Is(err, ErrInvalid) || got != (Selection{}) {
			t.Errorf("ParseSelect(%q) = %+v, %v, want %v", text, got, err, ErrInvalid)
		}
	}
}
