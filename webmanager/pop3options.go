package webmanager

import "latchkey/store"

// POP3Change changes what a mailbox shows to its client; what is nil stays. See [store.POP3Options].
type POP3Change struct {
	ReplaceNUL   *bool   `json:"replace_nul,omitempty"`
	EndHeader    *bool   `json:"end_header,omitempty"`
	StatusHeader *bool   `json:"status_header,omitempty"`
	Last         *bool   `json:"last,omitempty"`
	Select       *string `json:"select,omitempty"`
}

// apply changes o; mistakes are what is wrong.
func (c POP3Change) apply(o *store.POP3Options) (mistakes []Field) {
	for _, option := range []struct{ from, to *bool }{
		{c.ReplaceNUL, &o.ReplaceNUL}, {c.EndHeader, &o.EndHeader}, {c.StatusHeader, &o.StatusHeader}, {c.Last, &o.Last},
	} {
		if option.from != nil {
			*option.to = *option.from
		}
	}
	if c.Select == nil {
		return nil
	}
	if _, err := store.ParseSelect(*c.Select); err != nil {
		return []Field{say("pop3_select", store.MaxSelectDays, store.MaxSelectMessages).of("pop3.select")}
	}
	o.Select = *c.Select
	return nil
}
