package pages

import (
	"net/http"
	"strconv"
	"strings"

	"latchkey/webmanager"
)

// tokenPages are about the tokens of the JSON API.
func (s *Server) tokenPages() []pageRoute {
	return []pageRoute{
		{"GET /tokens", "GET /v1/tokens", (*exchange).showTokens},
		{"POST /tokens", "POST /v1/tokens", (*exchange).addToken},
		{"POST /tokens/revoke", "DELETE /v1/tokens/{id}", (*exchange).revokeToken},
	}
}

// tokensData is the list of tokens.
type tokensData struct {
	webmanager.TokenList
	// Made is a token that was just made, whose text is shown, this once.
	Made *webmanager.AddedToken
}

func (x *exchange) showTokens() error { return x.tokens(nil) }

func (x *exchange) tokens(made *webmanager.AddedToken) error {
	data := tokensData{Made: made}
	if err := x.get(webmanager.Path("tokens"), nil, &data.TokenList); err != nil {
		return err
	}
	return x.show("tokens", x.t("tokens.title"), data)
}

// addToken makes a token, whose text is on the page that answers and nowhere else.
func (x *exchange) addToken() error {
	body := webmanager.NewToken{
		Name: strings.TrimSpace(x.form("name")), Mailbox: strings.TrimSpace(x.form("mailbox")), ReadOnly: x.r.PostForm.Has("read_only"),
	}
	if err := body.Role.UnmarshalText([]byte(x.form("role"))); err != nil {
		body.Role = webmanager.RoleAnyone // the API says what is wrong with it
	}
	if typed := strings.TrimSpace(x.form("days")); typed != "" {
		n, err := strconv.Atoi(typed)
		if err != nil {
			n = -1 // as above
		}
		body.Days = n
	}
	var added webmanager.AddedToken
	if err := x.do(http.MethodPost, webmanager.Path("tokens"), body, &added); err != nil {
		return x.again(err, (*exchange).showTokens)
	}
	x.r.PostForm = nil // the form is empty again
	return x.tokens(&added)
}

func (x *exchange) revokeToken() error {
	if err := x.do(http.MethodDelete, webmanager.Path("tokens", x.form("id")), nil, nil); err != nil {
		return x.again(err, (*exchange).showTokens)
	}
	return x.done("/tokens", x.t("tokens.revoked"))
}
