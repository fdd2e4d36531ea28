package pages

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"latchkey/webmanager"
)

// banPages are about whom the server keeps out, and to whom it does not send.
func (s *Server) banPages() []pageRoute {
	return []pageRoute{
		{"GET /bans", "GET /v1/bans", (*exchange).listBans},
		{"POST /bans", "POST /v1/bans", (*exchange).addBan},
		{"POST /bans/lift", "POST /v1/bans/lift", (*exchange).liftBan},
		{"GET /suppressions", "GET /v1/suppressions", (*exchange).listSuppressions},
		{"POST /suppressions", "PUT /v1/suppressions/{address}", (*exchange).putSuppression},
		{"POST /suppressions/remove", "DELETE /v1/suppressions/{address}", (*exchange).removeSuppression},
	}
}

// maxBansShown bounds the bans on the page: there may be thousands after guesses.
const maxBansShown = 200

// bansData is the list of bans.
type bansData struct {
	Bans []webmanager.Ban
	// Total is how many there are, more than are shown perhaps; Find is what was searched for.
	Total int
	Find  string
}

func (x *exchange) listBans() error {
	data := bansData{Find: strings.TrimSpace(x.r.URL.Query().Get("find"))}
	var list webmanager.BanList
	if err := x.get(webmanager.Path("bans"), nil, &list); err != nil {
		return err
	}
	for _, b := range list.Bans {
		if !strings.Contains(b.Network.String()+" "+b.Mailbox, strings.ToLower(data.Find)) {
			continue
		}
		if data.Total++; len(data.Bans) < maxBansShown {
			data.Bans = append(data.Bans, b)
		}
	}
	return x.show("bans", x.t("bans.title"), data)
}

func (x *exchange) addBan() error {
	body := webmanager.NewBan{
		Network: strings.TrimSpace(x.form("network")), Mailbox: strings.TrimSpace(x.form("mailbox")), Reason: strings.TrimSpace(x.form("reason")),
		For: strings.TrimSpace(x.form("for")),
	}
	var made webmanager.Ban
	if err := x.do(http.MethodPost, webmanager.Path("bans"), body, &made); err != nil {
		return x.again(err, (*exchange).listBans)
	}
	return x.done("/bans", x.t("bans.added", made.Network.String()))
}

func (x *exchange) liftBan() error {
	body := webmanager.BanLift{Network: x.form("network"), Mailbox: x.form("mailbox")}
	var lifted webmanager.BanList
	if err := x.do(http.MethodPost, webmanager.Path("bans", "lift"), body, &lifted); err != nil {
		return x.again(err, (*exchange).listBans)
	}
	return x.done("/bans", x.t("bans.lifted", len(lifted.Bans)))
}

// suppressionsData is a page of the addresses outside that no mail is sent to.
type suppressionsData struct {
	webmanager.SuppressionPage
	First bool
}

func (x *exchange) listSuppressions() error {
	after := x.r.URL.Query().Get("after")
	data := suppressionsData{First: after == ""}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "after": {after}}
	if err := x.get(webmanager.Path("suppressions"), query, &data.SuppressionPage); err != nil {
		return err
	}
	return x.show("suppressions", x.t("suppressions.title"), data)
}

func (x *exchange) putSuppression() error {
	body := webmanager.NewSuppression{Reason: strings.TrimSpace(x.form("reason"))}
	if typed := strings.TrimSpace(x.form("days")); typed != "" {
		n, err := strconv.Atoi(typed)
		if err != nil || n == 0 {
			n = -1 // the API says what is wrong with it
		}
		body.Days = n
	}
	address := strings.TrimSpace(x.form("address"))
	if address == "" {
		return x.again(&webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("form.wrong"), Fields: []webmanager.Field{
			{Field: "address", Message: x.t("form.needed")},
		}}, (*exchange).listSuppressions)
	}
	var made webmanager.Suppression
	if err := x.do(http.MethodPut, webmanager.Path("suppressions", address), body, &made); err != nil {
		return x.again(err, (*exchange).listSuppressions)
	}
	return x.done("/suppressions", x.t("suppressions.added", made.Address.String()))
}

func (x *exchange) removeSuppression() error {
	address := x.form("address")
	if err := x.do(http.MethodDelete, webmanager.Path("suppressions", address), nil, nil); err != nil {
		return x.again(err, (*exchange).listSuppressions)
	}
	return x.done("/suppressions", x.t("suppressions.removed", address))
}
