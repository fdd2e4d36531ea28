package pages

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/webmanager"
	"latchkey/webmanager/setup"
)

//go:embed templates/*.html static/style.css static/passkey.js
var files embed.FS

// renderer makes pages of templates. Each is read when it is first needed.
type renderer struct {
	style, script *asset

	mu   sync.Mutex // protects made
	made map[madeKey]*template.Template
}

type madeKey struct {
	lang lang
	name string
}

func newRenderer() *renderer {
	return &renderer{
		style: newAsset("style.css", "text/css"), script: newAsset("passkey.js", "text/javascript"), made: map[madeKey]*template.Template{},
	}
}

// asset is a file that pages refer to. Its path changes with it.
type asset struct {
	path, media string
	text        []byte
}

func newAsset(name, media string) *asset {
	text, err := files.ReadFile("static/" + name)
	if err != nil {
		panic(err) // it is in the program
	}
	sum := sha256.Sum256(text)
	return &asset{path: "/static/" + hex.EncodeToString(sum[:6]) + "/" + name, media: media, text: text}
}

// ServeHTTP serves the file.
func (f *asset) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", f.media+"; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.text) // a client that has gone needs no answer
}

// page writes a page.
func (d *renderer) page(w io.Writer, l lang, name string, v *view) error {
	t, err := d.template(l, name)
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, "layout", v)
}

func (d *renderer) template(l lang, name string) (*template.Template, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := madeKey{l, name}
	if t := d.made[key]; t != nil {
		return t, nil
	}
	t, err := template.New(name).Funcs(functions(l)).ParseFS(files, "templates/layout.html", "templates/"+name+".html")
	if err != nil {
		return nil, fmt.Errorf("pages: template %s: %w", name, err)
	}
	d.made[key] = t
	return t, nil
}

// functions are what templates may call.
func functions(l lang) template.FuncMap {
	return template.FuncMap{
		"t":    func(key string, args ...any) string { return text(l, key, args...) },
		"when": when,
		"qr":   qrCode,
		"size": size,
		"esc":  url.PathEscape,
		"usage": func(u store.Usage) string {
			if u.Messages == 1 {
				return text(l, "mailboxes.usage.one", u.Messages, size(u.Octets))
			}
			return text(l, "mailboxes.usage", u.Messages, size(u.Octets))
		},
		"lines": func(text string) []string {
			return strings.Split(strings.TrimRight(text, "\n"), "\n")
		},
		"join":      strings.Join,
		"strings":   texts[mailaddr.Address],
		"texts":     func(list []mailaddr.Address) string { return strings.Join(texts(list), "\n") },
		"sentence":  sentence,
		"capital":   capital,
		"step":      func(e webmanager.TrailStep) string { return step(l, e) },
		"stepClass": stepClass,
		"provable":  provable,
		"subjectOf": func(m webmanager.TrailMessage) string { return subjectOf(l, m) },
		"sizeOf":    sizeOf,
		"onoff":     onOff,
		"bound":     bound,
		"list":      func(items ...string) []string { return items },
		"megabytes": megabytes,
		"share":     share,
		"program":   func(name string) string { return program(l, name) },
		"count":     count,
		"dayOf":     dayOf,
	}
}

// when is a moment, for people and for programs.
func when(t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	// Digits and letters of the clock's own, so nothing of it needs quoting.
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2006-01-02 15:04") + ` UTC</time>`) //nolint:gosec // see above
}

// program is what a mail program is called. Of one that sends only its greeting is known.
func program(l lang, name string) string {
	if name == "EHLO" || name == "HELO" {
		return text(l, "client.sends", name)
	}
	return name
}

// qrCode draws a text to be photographed.
func qrCode(text string) (template.HTML, error) {
	picture, err := setup.QRCode(text)
	return template.HTML(picture), err //nolint:gosec // numbers alone are drawn
}

// texts are the texts of a list.
func texts[T fmt.Stringer](list []T) []string {
	all := make([]string, len(list))
	for i, one := range list {
		all[i] = one.String()
	}
	return all
}

// sentence begins what the API says with a capital, and ends it.
func sentence(text string) string {
	return strings.TrimSuffix(capital(text), ".") + "."
}

// capital begins a text with a capital.
func capital(text string) string {
	first, width := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[width:]
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// bound is a bound as a form has it: empty for none.
func bound(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// megabytes is bound for octets.
func megabytes(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', -1, 64)
}

// size is a number of octets, for people.
func size(n int64) string {
	const step = 1024
	if n < step {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n)/step, 0
	for value >= step && unit < 3 {
		value /= step
		unit++
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + [...]string{"KB", "MB", "GB", "TB"}[unit]
}

// view is what every template gets.
type view struct {
	Lang, Title, Domain, Path, Style, Help string
	// Script is the path of the script for passkeys; empty on pages without.
	Script string
	// Who signed in; empty for a stranger. Own is the name of the mailbox, Owner whether the domain is theirs, Operator the server.
	Who, Own        string
	Owner, Operator bool
	Flash           string
	Problem         *webmanager.Error
	Form            url.Values
	D               any
}

// Value is what was typed into a field of a form that is shown again, or what it holds otherwise.
func (v *view) Value(name, otherwise string) string {
	if v.Form.Has(name) {
		return v.Form.Get(name)
	}
	return otherwise
}

// Checked is whether a box of a form is ticked. On a page with several forms, with is a field of the same one, which is always sent: a box
// that another form does not have is not one that somebody cleared.
func (v *view) Checked(name string, otherwise bool, with ...string) bool {
	if len(with) > 0 {
		return v.Form.Has(name) || otherwise && !v.Form.Has(with[0])
	}
	if v.Problem != nil && len(v.Form) > 0 {
		return v.Form.Has(name)
	}
	return otherwise
}

// Wrong is what is wrong with a field; several names are several fields of the API behind one of the form.
func (v *view) Wrong(names ...string) string {
	if v.Problem == nil {
		return ""
	}
	var found []string
	for _, f := range v.Problem.Fields {
		for _, name := range names {
			if f.Field == name {
				found = append(found, f.Message)
			}
		}
	}
	return strings.Join(found, "; ")
}

// On reports whether the form of a page was sent to an address that ends so: two forms of a page may have fields of the same name.
func (v *view) On(end string) bool { return strings.HasSuffix(v.Path, end) }

// MayProve reports whether a proof of a step can be asked for: the owner of a mailbox has proofs of what it sent.
func (v *view) MayProve(e webmanager.TrailStep) bool {
	return v.Owner || e.Mailbox != v.Own || e.Kind != store.TrailStored
}

// At marks the page that is shown in the navigation.
func (v *view) At(path string) bool {
	return v.Path == path || path != "/" && strings.HasPrefix(v.Path, path+"/")
}

// entry is a line of the navigation; Text is the key of its text.
type entry struct{ Path, Text string }

// More are the pages of the navigation's last entry: what the owner of the domain, or the operator, looks for less often.
func (v *view) More() []entry {
	list := []entry{
		{"/grants", "grants.title"}, {"/holds", "holds.title"}, {"/bans", "bans.title"}, {"/suppressions", "suppressions.title"}, {"/audit", "audit.title"},
	}
	if v.Operator {
		list = append(list, entry{"/tokens", "tokens.title"})
	}
	if v.Own != "" {
		list = append(list, entry{mailboxPath(v.Own), "mailbox.mine"})
	}
	return append(list, entry{"/explain", "nav.explain"})
}

// AtMore reports whether one of them is shown.
func (v *view) AtMore() bool {
	return slices.ContainsFunc(v.More(), func(e entry) bool { return v.At(e.Path) })
}

// AtMailboxes reports whether the list of mailboxes is shown, or one of them that is not the own.
func (v *view) AtMailboxes() bool {
	return v.At("/mailboxes") || v.At("/mailbox") && (v.Own == "" || !v.At(mailboxPath(v.Own)))
}

// AtHelp is At for the guide.
func (v *view) AtHelp() bool { return v.Help != "" && strings.HasPrefix(v.Path, v.Help) }

// view collects what every page shows.
func (x *exchange) view(title string, data any) (*view, error) {
	v := &view{
		Lang: string(x.lang), Title: title, Path: x.r.URL.Path, Style: x.s.render.style.path, Help: x.s.o.Help,
		Problem: x.problem, Form: x.r.PostForm, D: data,
	}
	if s, ok := data.(scripted); ok && s.needsScript() {
		v.Script = x.s.render.script.path
	}
	if v.Form == nil {
		v.Form = url.Values{}
	}
	if x.session == nil {
		return v, nil
	}
	var version webmanager.Version
	if err := x.get(webmanager.Path("version"), nil, &version); err != nil {
		return nil, err
	}
	v.Domain, v.Who = version.Domain, x.actor.Name
	if x.actor.Account != 0 {
		v.Own, v.Who = x.actor.Name, x.actor.Name+"@"+version.Domain
	}
	v.Owner, v.Operator = x.actor.Role >= webmanager.RoleOwner, x.actor.Role >= webmanager.RoleOperator
	if x.problem == nil {
		v.Flash = x.s.sessions.takeFlash(x.session)
	}
	return v, nil
}
