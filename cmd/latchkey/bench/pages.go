//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"latchkey/store"
)

// Of part k.
const (
	pageTime   = "a page, p99 of all of them"
	pageWorst  = "the slowest page, its p99"
	pageMedian = "a page, median of all of them"
	pageFirst  = "the first page with what it refers to"
	pageRest   = "memory (RssAnon) at rest with pages, more than without"

	pageMailboxes = 1000
	pageMessages  = 500_000 // each is two events of the trail
	pageLetter    = 512
	pageTurns     = 100
	// pageRestTime is how long a process rests before its memory is looked at; pageRests is how often it is started for it.
	pageRestTime, pageRests = 15 * time.Second, 3
	pagesOwner              = "user0"
)

// visited are the pages that are asked for: those of the domain's owner, with the searches that have most to look at, and the guide.
func visited() []string {
	return []string{
		"/", "/mailboxes", "/mailbox/user500", "/aliases", "/sending", "/sending/all", "/grants", "/holds", "/queue", "/bans", "/dns", "/mailbox/user500/mail", "/trail",
		"/trail?for=" + url.QueryEscape(address("user500")), "/trail?for=" + url.QueryEscape(address("nobody")), "/trail?subject=nothing+of+that+name",
		"/audit", "/explain", "/help/", "/help/thunderbird",
	}
}

// browser asks for pages over one connection.
type browser struct {
	base   string
	client *http.Client
}

func newBrowser(base string) (*browser, error) {
	jar, err := cookiejar.New(nil)
	return &browser{base, &http.Client{Jar: jar, Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: stopTime}}, err
}

// ask returns a page, and how many octets came.
func (b *browser) ask(ctx context.Context, method, path string, form url.Values) (string, int, error) {
	r, err := http.NewRequestWithContext(ctx, method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, answer.Status)
	}
	return string(text), len(text), err
}

// measurePages is part k.
func (r *run) measurePages(ctx context.Context) (err error) {
	for _, w := range []row{
		{measure: pageTime, unit: "ms", want: atMost(20)}, {measure: pageWorst, unit: "ms"}, {measure: pageMedian, unit: "ms"},
		{measure: pageFirst, unit: "kB", want: atMost(60)}, {measure: pageRest, unit: "MiB", want: atMost(3)},
	} {
		w.part = 'k'
		w.want = w.want.alone()
		r.sheet.want(w)
	}
	ours, err := newLatchkey(ctx, r.root, "pages", r.binary, mailboxNames("user", pageMailboxes))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	if err := ours.inStore(ctx, func(st store.Store) error { return fillPages(ctx, st, r.scaled(pageMessages, 1)) }); err != nil {
		return err
	}
	if err := r.pagesAtRest(ctx, ours); err != nil {
		return err
	}
	return r.pageTimes(ctx, ours)
}

// fillPages makes the first mailbox the domain's owner, and gives each its mail.
func fillPages(ctx context.Context, st store.Store, n int) error {
	owner, err := st.AccountByName(ctx, pagesOwner)
	if err != nil {
		return err
	}
	owner.Owner = true
	if _, err := st.UpdateAccount(ctx, owner); err != nil {
		return err
	}
	boxOf, size := func(seq int) int { return seq % pageMailboxes }, func(int) int { return pageLetter }
	return fillStore(ctx, st, mailboxNames("user", pageMailboxes), 0, n, newLetters(), boxOf, size)
}

// pagesAtRest compares a process that serves pages with one that does not.
func (r *run) pagesAtRest(ctx context.Context, ours *latchkey) error {
	addrs, err := freePorts(1)
	if err != nil {
		return err
	}
	with := []string{"--web-listen", addrs[0]}
	var rest [2][]float64
	for range pageRests {
		for i, extra := range [][]string{nil, with} {
			ours.extra = extra
			if _, err := ours.start(ctx); err != nil {
				return err
			}
			if err := pause(ctx, pageRestTime); err != nil {
				return err
			}
			octets, err := procNumber(ours.pid(), "status", "RssAnon")
			if err := errors.Join(err, ours.stop()); err != nil {
				return err
			}
			rest[i] = append(rest[i], float64(octets)/1024)
		}
	}
	fmt.Printf("  at rest without and with pages, MiB: %.1f\n", rest)
	r.figure(pageRest, us, median(rest[1])-median(rest[0]), "MiB")
	ours.extra = with
	return nil
}

// pageTimes asks for the pages.
func (r *run) pageTimes(ctx context.Context, ours *latchkey) error {
	if _, err := ours.start(ctx); err != nil {
		return err
	}
	b, err := newBrowser("http://" + ours.extra[1])
	if err != nil {
		return err
	}
	octets, err := b.first(ctx)
	if err != nil {
		return err
	}
	r.figure(pageFirst, us, float64(octets)/1000, "kB")
	if _, _, err := b.ask(ctx, http.MethodPost, "/login", url.Values{"name": {pagesOwner}, "password": {password}}); err != nil {
		return err
	}
	var all []time.Duration
	worst := 0.0
	for _, path := range visited() {
		var took []time.Duration
		for range pageTurns {
			begin := time.Now()
			if _, _, err := b.ask(ctx, http.MethodGet, path, nil); err != nil {
				return err
			}
			took = append(took, time.Since(begin))
		}
		all = append(all, took...)
		p99 := quantile(took, 0.99)
		fmt.Printf("  %-58s median %.2f ms, p99 %.2f ms\n", path, quantile(took, 0.5), p99)
		worst = max(worst, p99)
	}
	r.figure(pageTime, us, quantile(all, 0.99), "ms")
	r.figure(pageWorst, us, worst, "ms")
	r.figure(pageMedian, us, quantile(all, 0.5), "ms")
	return nil
}

// referred are what a page has a browser ask for by itself.
var referred = regexp.MustCompile(`(?:<link rel="(?:stylesheet|icon)"[^>]* href|<script[^>]* src|<img[^>]* src)="(/[^"]*)"`)

// first returns the octets of the first page and of what it refers to.
func (b *browser) first(ctx context.Context) (octets int, err error) {
	page, octets, err := b.ask(ctx, http.MethodGet, "/", nil)
	for _, m := range referred.FindAllStringSubmatch(page, -1) {
		if err != nil {
			break
		}
		var more int
		_, more, err = b.ask(ctx, http.MethodGet, m[1], nil)
		octets += more
	}
	return octets, err
}
