package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/tlsrpt"
	"latchkey/store"
)

const (
	// choreTime is the time between two looks at what is to be done beside delivering, and what a crash can lose of the counts.
	choreTime = 5 * time.Minute
	// hourly is the time between two looks at policies to be refreshed and at reports to be sent.
	hourly = time.Hour
	// reportSpread is how long after midnight (UTC) a report goes at most, so that not all the world sends at once (RFC 8460 §4.2).
	reportSpread = 4 * time.Hour
	// reportedDays is for how many days back a report is still tried.
	reportedDays = 2
	// postTime bounds one POST of a report.
	postTime = time.Minute
	// mimeLine is the length of a line of Base64.
	mimeLine = 76
)

// tlsChores keeps policies fresh and sends reports until stop ends. What was counted is kept at the end.
func (r *Runner) tlsChores(stop context.Context) {
	tick := time.NewTicker(choreTime)
	defer tick.Stop()
	late := time.Duration(r.opts.Rand() * float64(reportSpread))
	var last time.Time
	for {
		select {
		case <-stop.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), giveBackTime)
			defer cancel()
			r.counter.flush(ctx)
			return
		case <-tick.C:
		}
		r.counter.flush(stop)
		now := r.opts.Now()
		if now.Sub(last) < hourly {
			continue
		}
		last = now
		r.sts.refresh(stop)
		if midnight := now.UTC().Truncate(24 * time.Hour); !now.Before(midnight.Add(late)) {
			r.sendTLSReports(stop, now)
		}
	}
}

// sendTLSReports sends the reports on the last days that are owed (RFC 8460 §4), and forgets what was counted.
func (r *Runner) sendTLSReports(ctx context.Context, now time.Time) {
	settings, err := r.opts.Store.Settings(ctx)
	if err != nil || !settings.OutgoingMail {
		return // another time
	}
	for back := 1; back <= reportedDays+1; back++ {
		day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -back)
		for shard := range countShards {
			key := dayShard{dayOf(day), shard}
			all := true
			for domain, one := range r.counter.domains(key) {
				if ctx.Err() != nil {
					return
				}
				all = r.sendTLSReport(ctx, settings.Domain, key, day, domain, one) && all
			}
			if all || back > reportedDays {
				r.counter.drop(ctx, key)
			}
		}
	}
	r.counter.flush(ctx)
}

// sendTLSReport sends one domain's report to the places that do not have it yet, and reports whether all have it now.
func (r *Runner) sendTLSReport(ctx context.Context, ours string, key dayShard, day time.Time, domain string, c counted) bool {
	report := &tlsrpt.Report{
		Organization: ours, Contact: "postmaster@" + ours, ID: key.day + "." + domain + "@" + r.opts.Hostname, Policies: c.Results,
		Range: tlsrpt.DateRange{Start: day, End: day.Add(24*time.Hour - time.Second)},
	}
	zipped, err := report.Encode()
	if err != nil {
		r.log.Error("TLS report not written", slog.String("domain", domain), slog.Any("err", err))
		return true // it never can be
	}
	all := true
	for _, uri := range c.URIs {
		if slices.Contains(c.Sent, uri) {
			continue
		}
		place, err := url.Parse(uri)
		switch {
		case err != nil:
		case strings.EqualFold(place.Scheme, "mailto"):
			err = r.mailTLSReport(ctx, place.Opaque, ours, domain, report, zipped)
		default:
			err = r.postTLSReport(ctx, place, zipped)
		}
		if err != nil {
			r.log.Info("TLS report not sent", slog.String("domain", domain), slog.String("to", uri), slog.Any("err", err))
			all = false
			continue
		}
		r.log.Info("TLS report sent", slog.String("domain", domain), slog.String("to", uri), slog.String("day", key.day))
		r.counter.sent(key, domain, uri)
	}
	return all
}

// postTLSReport sends a report by HTTPS (RFC 8460 §5.4). Redirections are not followed.
func (r *Runner) postTLSReport(ctx context.Context, place *url.URL, zipped []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postTime)
	defer cancel()
	c := &tls.Config{}
	if r.opts.TLS != nil {
		c = r.opts.TLS.Clone()
	}
	c.MinVersion, c.InsecureSkipVerify = tls.VersionTLS12, false
	transport := &http.Transport{DialContext: r.dialPolicyHost, TLSClientConfig: c, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, place.String(), bytes.NewReader(zipped))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/tlsrpt+gzip")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // nothing in it matters
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("relay: the answer is %d", response.StatusCode)
	}
	return nil
}

// mailTLSReport queues a report as mail (RFC 8460 §5.3). It may go in the clear: it is wanted most where TLS is out of order (RFC 8460 §3).
func (r *Runner) mailTLSReport(ctx context.Context, to, ours, domain string, report *tlsrpt.Report, zipped []byte) error {
	text, err := url.PathUnescape(to)
	if err != nil {
		return err
	}
	address, err := mailaddr.Parse(text)
	if err != nil {
		return err
	}
	from, err := mailaddr.Parse("postmaster@" + ours)
	if err != nil {
		return err
	}
	route, err := r.opts.Store.Resolve(ctx, address)
	if err != nil {
		return err
	}
	draft, err := r.opts.Store.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	header := r.tlsReportHeader(from, address, domain, report)
	if _, err := io.WriteString(draft, header+tlsReportBody(ours, domain, report, zipped)); err != nil {
		return err
	}
	e := store.Envelope{
		ReversePath: from, Received: r.opts.Now(), HeaderLen: int64(len(header)), HeaderID: "<" + report.ID + ">", Ours: true, // RFC 8460 §3: signed
		TLS: store.TLSOptional, Origin: store.Origin{Door: "local"},
	}
	for _, id := range route.Local {
		e.Recipients = append(e.Recipients, store.Recipient{Address: address, Account: id})
	}
	for _, a := range route.Remote {
		e.Recipients = append(e.Recipients, store.Recipient{Address: a, Notify: store.NotifyNever})
	}
	if len(e.Recipients) == 0 {
		return errors.New("relay: the address for reports leads nowhere")
	}
	_, err = draft.Commit(ctx, e)
	return err
}

// boundary parts the report's mail. It cannot be in Base64, nor in the text above it.
const boundary = "=_tls-report"

func (r *Runner) tlsReportHeader(from, to mailaddr.Address, domain string, report *tlsrpt.Report) string {
	lines := []string{
		"From: " + from.String(), "To: " + to.String(), "Date: " + r.opts.Now().Format(time.RFC1123Z),
		"Message-ID: <" + report.ID + ">",
		"Subject: Report Domain: " + domain + "\r\n Submitter: " + r.opts.Hostname + "\r\n Report-ID: <" + report.ID + ">",
		"TLS-Report-Domain: " + domain, "TLS-Report-Submitter: " + r.opts.Hostname, "TLS-Required: No", "Auto-Submitted: auto-generated",
		"MIME-Version: 1.0", `Content-Type: multipart/report; report-type="tlsrpt";` + "\r\n boundary=\"" + boundary + `"`,
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func tlsReportBody(ours, domain string, report *tlsrpt.Report, zipped []byte) string {
	var good, bad int64
	for _, p := range report.Policies {
		good, bad = good+p.Summary.Successful, bad+p.Summary.Failed
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary)
	fmt.Fprintf(&b, "This is a report on TLS between the mail server of %s and those of %s\r\non %s (UTC). ",
		ours, domain, report.Range.Start.Format(time.DateOnly))
	fmt.Fprintf(&b, "%d connections were well protected, %d were not.\r\nThe details are attached (RFC 8460).\r\n", good, bad)
	name := fmt.Sprintf("%s!%s!%d!%d.json.gz", ours, domain, report.Range.Start.Unix(), report.Range.End.Unix())
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n", boundary)
	fmt.Fprintf(&b, "Content-Disposition: attachment;\r\n filename=\"%s\"\r\n\r\n", name)
	text := base64.StdEncoding.EncodeToString(zipped)
	for len(text) > 0 {
		n := min(len(text), mimeLine)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.String()
}
