package store_test

import (
	"slices"
	"strings"
	"testing"

	"latchkey/store"
	"latchkey/store/memstore"
)

// TestSubjectTokens: which words of a subject it can be found by.
func TestSubjectTokens(t *testing.T) {
	key, err := store.LoadSubjectKey(t.Context(), memstore.New("example.com"))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 80)
	many := "w01 w02 w03 w04 w05 w06 w07 w08 w09 w10 w11 w12"
	for name, tt := range map[string]struct{ subject, same string }{
		"plain":            {"Invoice of May", "invoice may"},
		"capitals":         {"ÄRGER mit Öl-Heizung", "ärger mit heizung"}, // "öl" is two letters
		"order and twice":  {"may may invoice", "may invoice"},
		"marks of replies": {"Re: Fwd: AW: WG: Fw: invoice", "invoice"},
		"numbers":          {"Order 7, No. 4711-B", "order 7 4711"},
		"punctuation":      {"[list] (urgent!) a_b: \"quoted\"", "list urgent quoted"},
		"encoded, Q":       {"=?utf-8?Q?Rechnung_f=C3=BCr_Mai?=", "rechnung für mai"},
		"encoded, B":       {"=?ISO-8859-1?B?TfxsbGVy?= ok", "müller"},
		"unknown charset":  {"=?x-odd?Q?invoice?=", "odd invoice"},
		"other scripts":    {"Счёт за май", "счёт май"},
		"combining":        {"cafe\u0301s", "cafe\u0301s"},
		"long word":        {long, long[:64]},
		"too many":         {many + " w13", many},
		"nothing":          {"", ""},
		"no word":          {"a - b : ??", ""},
		"odd octets":       {"\xff\xfe invoice\x00\x80", "invoice"},
		"beyond the bound": {strings.Repeat(" ", 998) + "invoice", ""},
		"at the bound":     {strings.Repeat(" ", 995) + "may", "may"},
	} {
		got, want := key.Tokens(tt.subject), key.Tokens(tt.same)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || tt.same == "" != (len(got) == 0) || len(got) != len(strings.Fields(tt.same)) {
			t.Errorf("%s: %q has %v, want %v as %q", name, tt.subject, got, want, tt.same)
		}
	}
	if none := new(store.SubjectKey).Tokens("invoice"); none != nil {
		t.Errorf("without a key there are tokens %v", none)
	}
	other, err := store.LoadSubjectKey(t.Context(), memstore.New("example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(other.Tokens("invoice"), key.Tokens("invoice")) {
		t.Error("two stores have the same tokens")
	}
	if allocs := testing.AllocsPerRun(100, func() { key.Tokens("Invoice 17 of the plumber in the High Street") }); allocs > 1 {
		t.Errorf("the tokens of a subject take %v allocations, want 1", allocs)
	}
}

func FuzzSubjectTokens(f *testing.F) {
	key, err := store.LoadSubjectKey(f.Context(), memstore.New("example.com"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("=?utf-8?Q?Rechnung_f=C3=BCr_Mai?= \xff 17")
	f.Fuzz(func(t *testing.T, subject string) {
		got := key.Tokens(subject)
		if len(got) > store.MaxSubjectTokens || !slices.Equal(got, key.Tokens(subject)) {
			t.Errorf("%q: %v", subject, got)
		}
	})
}
