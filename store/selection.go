package store

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a Selection.
const (
	// MaxSelectDays and MaxSelectMessages are the most days and messages that a Selection may name.
	MaxSelectDays     = 3650
	MaxSelectMessages = 1_000_000
)

// Selection is which messages of a maildrop a session lists. The zero value is all of them; at most one field is set.
type Selection struct {
	// New is those that no earlier session has fetched.
	New bool
	// Days is those of the last 1 to MaxSelectDays days; 0 is no such choice.
	Days int
	// Max is the last 1 to MaxSelectMessages messages; 0 is no such choice.
	Max int
}

// ParseSelect reads a selection as people write it: "" for all, "new", "7d", "max=200", with numbers in plain decimal without signs or leading
// zeros. Every selection has one text only. ErrInvalid for anything else.
func ParseSelect(text string) (Selection, error) {
	switch text {
	case "":
		return Selection{}, nil
	case "new":
		return Selection{New: true}, nil
	}
	if digits, ok := strings.CutSuffix(text, "d"); ok {
		if n, ok := plainNumber(digits, MaxSelectDays); ok {
			return Selection{Days: n}, nil
		}
	}
	if digits, ok := strings.CutPrefix(text, "max="); ok {
		if n, ok := plainNumber(digits, MaxSelectMessages); ok {
			return Selection{Max: n}, nil
		}
	}
	return Selection{}, fmt.Errorf("%w: a selection is empty, \"new\", \"1d\" to \"%dd\" or \"max=1\" to \"max=%d\"", ErrInvalid, MaxSelectDays, MaxSelectMessages)
}

// plainNumber reads 1 to most in the one way to write it.
func plainNumber(digits string, most int) (n int, ok bool) {
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 1 && n <= most && strconv.Itoa(n) == digits
}
