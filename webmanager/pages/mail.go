package pages

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"latchkey/webmanager"
)

// mailPages look into a mailbox, for an emergency.
func (s *Server) mailPages() []pageRoute {
	return []pageRoute{
		{"GET /mailbox/{name}/mail", "GET /v1/accounts/{name}/messages", (*exchange).listMail},
		{"GET /mailbox/{name}/mail/{uid}", "GET /v1/accounts/{name}/messages/{uid}", (*exchange).showMail},
		{"GET /mailbox/{name}/mail/{uid}/download", "GET /v1/accounts/{name}/messages/{uid}/raw", (*exchange).downloadMail},
	}
}

// downloadStall is how long a browser may take nothing of a download before it is broken off.
const downloadStall = 2 * time.Minute

// mailListData is a page of a maildrop.
type mailListData struct {
	webmanager.MailPage
	Name string
	// First is set where nothing is newer, Mine for the own mailbox.
	First, Mine bool
}

// mine reports whether the mailbox of the path is that of whoever asks.
func (x *exchange) mine() (account webmanager.Account, mine bool, err error) {
	err = x.get(webmanager.Path("accounts", x.r.PathValue("name")), nil, &account)
	return account, err == nil && x.actor.Account == account.ID, err
}

func (x *exchange) listMail() error {
	account, mine, err := x.mine()
	if err != nil {
		return err
	}
	before := x.r.URL.Query().Get("before")
	data := mailListData{Name: account.Name, First: before == "", Mine: mine}
	query := url.Values{}
	if before != "" {
		query.Set("before", before)
	}
	if err := x.get(webmanager.Path("accounts", account.Name, "messages"), query, &data.MailPage); err != nil {
		return err
	}
	return x.show("mails", x.t("mail.title", account.Address.String()), data)
}

// mailData is one message.
type mailData struct {
	webmanager.Mail
	Name string
	Mine bool
}

func (x *exchange) showMail() error {
	account, mine, err := x.mine()
	if err != nil {
		return err
	}
	data := mailData{Name: account.Name, Mine: mine}
	if err := x.get(webmanager.Path("accounts", account.Name, "messages", x.r.PathValue("uid")), nil, &data.Mail); err != nil {
		return err
	}
	title := data.Subject
	if title == "" {
		title = x.t("mail.nosubject")
	}
	return x.show("mail", title, data)
}

// downloadMail hands out a message as it is. Whatever is in it, a browser neither shows nor runs it: it is a file, its type is not guessed, and if it
// were shown all the same it could do nothing.
func (x *exchange) downloadMail() error {
	name, uid := x.r.PathValue("name"), x.r.PathValue("uid")
	var account webmanager.Account
	if err := x.get(webmanager.Path("accounts", name), nil, &account); err != nil {
		return err
	}
	path := webmanager.Path("accounts", account.Name, "messages", uid, "raw")
	if err := x.named(path); err != nil {
		return err
	}
	body, err := x.client.Stream(x.r.Context(), http.MethodGet, path, webmanager.MessageType, nil)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it was read, or nobody wants it
	h := x.w.Header()
	h.Set("Content-Type", webmanager.MessageType)
	h.Set("Content-Disposition", `attachment; filename="`+uid+`.eml"`)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	out := &rolling{w: x.w, control: http.NewResponseController(x.w)}
	if _, err := io.Copy(out, body); err != nil {
		x.s.log.Info("a download was broken off", "uid", uid, "err", err)
		panic(http.ErrAbortHandler) // so that nobody takes the half for the whole
	}
	return nil
}

// rolling gives a browser time as long as it takes something.
type rolling struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// Write implements io.Writer.
func (r *rolling) Write(p []byte) (int, error) {
	if err := r.control.SetWriteDeadline(time.Now().Add(downloadStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return r.w.Write(p)
}
