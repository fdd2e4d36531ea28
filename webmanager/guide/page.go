package guide

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"latchkey/internal/clientsetup"
)

//go:embed content/*/*.html
var content embed.FS

// ErrNoPage is given for a page that is not there.
var ErrNoPage = errors.New("guide: no such page")

// Values are what the pages are filled with.
type Values struct {
	Setup clientsetup.Setup
	// Own is set where Setup is that of the mailbox that is signed in. Otherwise the values are examples, and the page says so.
	Own bool
}

// Fragment is a page without its layout. Body begins below the heading, which is Title.
type Fragment struct {
	Title string
	Body  template.HTML
}

// Guide makes pages. It may be used by any number of goroutines.
type Guide struct {
	root      string
	options   Options
	languages map[clientsetup.Lang]*template.Template
	index     map[clientsetup.Lang][]entry
}

// New reads the pages, which are part of the program: an error is a fault of theirs.
func New(o Options) (*Guide, error) {
	g := &Guide{
		root: strings.TrimSuffix(o.Root, "/"), options: o, languages: map[clientsetup.Lang]*template.Template{}, index: map[clientsetup.Lang][]entry{},
	}
	for _, l := range []clientsetup.Lang{clientsetup.English, clientsetup.German} {
		t := template.New(string(l)).Funcs(functions(l)).Option("missingkey=error")
		if _, err := t.ParseFS(content, "content/"+string(l)+"/*.html"); err != nil {
			return nil, fmt.Errorf("guide: pages: %w", err)
		}
		g.languages[l] = t
	}
	var err error
	for l := range g.languages {
		if g.index[l], err = g.entries(l); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// functions write parts of ways in a language.
func functions(l clientsetup.Lang) template.FuncMap {
	return template.FuncMap{
		"enc":   func(w clientsetup.Way) string { return w.Security.Words(l) },
		"login": func(w clientsetup.Way) string { return w.Login.Words(l) },
		"note":  func(w clientsetup.Way) string { return w.Words(l) },
	}
}

// view is what a template sees.
type view struct {
	clientsetup.Setup
	Own  bool
	Root string
	// Client is the program's name in the language, Page the name of its page.
	Client, Page string
	// In and Out are the ways in the table. Ready is set where there are both.
	In, Out clientsetup.Way
	Ready   bool
	// Modern are the ways with encryption of today, for programs that were given it later. AfterFetch and Network are ways to send without a login.
	// Each has Port 0 where it is not to be had, or is not the page's.
	ModernIn, ModernOut, AfterFetch, Network clientsetup.Way
	// Megabytes is the largest message.
	Megabytes int64
	// Profile and QRCode are where the set-up data for Apple's programs is.
	Profile, QRCode string
	// Clients and Problems are lists for the index and for the page on problems; Hits is what was found for Words.
	Clients  []link
	Problems []problemView
	Hits     []Hit
	Words    string
	Refused  []refused
}

type link struct{ URL, Title string }

func (g *Guide) view(l clientsetup.Lang, v Values) view {
	return view{Setup: v.Setup, Own: v.Own, Root: g.root, Megabytes: v.Setup.MessageSize >> 20, Profile: clientsetup.ProfilePath, QRCode: clientsetup.QRCodePath}
}

// Page is the page of a program: ErrNoPage if there is none of that name.
func (g *Guide) Page(l clientsetup.Lang, client string, v Values) (Fragment, error) {
	c, ok := find(client)
	if !ok {
		return Fragment{}, ErrNoPage
	}
	d := g.view(l, v)
	d.Client, d.Page = c.title(l), c.Name
	var in, out bool
	fetch, send := c.Fetch, c.Send
	if v.Setup.Trial {
		fetch, send = clearFirst(fetch), clearFirst(send)
	}
	d.In, in = clientsetup.Pick(v.Setup.Fetch, fetch...)
	d.Out, out = clientsetup.Pick(v.Setup.Send, send...)
	d.Ready = in && out
	also := func(ways []clientsetup.Way, ks ...clientsetup.Kind) clientsetup.Way {
		for _, k := range ks {
			for _, told := range c.Also {
				if w, ok := clientsetup.Pick(ways, k); ok && told == k {
					return w
				}
			}
		}
		return clientsetup.Way{}
	}
	d.ModernIn, d.ModernOut = also(v.Setup.Fetch, fetchTLS), also(v.Setup.Send, sendTLS)
	d.AfterFetch, d.Network = also(v.Setup.Send, afterFetch, afterFetchClear), also(v.Setup.Send, fromNetwork)
	steps := c.Name + ".html"
	if !d.Ready {
		steps = "none"
	}
	return g.fragment(l, d.Client, d, "head", steps, "tail")
}

// clearFirst prefers what has no encryption: some programs cannot be told to trust the certificate of a trial.
func clearFirst(ks kinds) kinds {
	order := func(k clientsetup.Kind) int {
		if k == fetchClear || k == sendClear {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(ks), func(a, b clientsetup.Kind) int { return order(a) - order(b) })
}

// Index is the list of pages.
func (g *Guide) Index(l clientsetup.Lang, v Values) (Fragment, error) {
	d := g.view(l, v)
	for _, c := range clients {
		d.Clients = append(d.Clients, link{g.root + "/" + c.Name, c.title(l)})
	}
	title := "Set up your mail program"
	if l == clientsetup.German {
		title = "E-Mail-Programm einrichten"
	}
	return g.fragment(l, title, d, "index.html")
}

// fragment executes templates one after the other.
func (g *Guide) fragment(l clientsetup.Lang, title string, d view, templates ...string) (Fragment, error) {
	t := g.languages[l]
	if t == nil {
		t = g.languages[clientsetup.English]
	}
	b := new(bytes.Buffer)
	for _, name := range templates {
		if err := t.ExecuteTemplate(b, name, d); err != nil {
			return Fragment{}, fmt.Errorf("guide: page %s: %w", name, err)
		}
	}
	return Fragment{Title: title, Body: template.HTML(b.String())}, nil //nolint:gosec // written by html/template
}

// ExampleSetup is what the pages show where nothing is known: a server with all doors at their usual ports.
func ExampleSetup() clientsetup.Setup {
	return clientsetup.New(clientsetup.Place{
		Domain: "example.com", Host: "mail.example.com", POP3: 110, POP3S: 995, MX: 25, Submission: 587, Submissions: 465,
		OldPOP3: 2110, OldPOP3S: 2995, OldSubmission: 2587, OldSubmissions: 2465, TLS: true,
	}, clientsetup.Rules{RequireAuth: true, POPBeforeSMTP: true, OutgoingMail: true, AuthOnMX: true, MessageSize: 50 << 20},
		clientsetup.Mailbox{Address: "you@example.com", OldClientLogin: true})
}
