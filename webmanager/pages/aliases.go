package pages

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"latchkey/webmanager"
)

// aliasPages are about further names.
func (s *Server) aliasPages() []pageRoute {
	return []pageRoute{
		{"GET /aliases", "GET /v1/aliases", (*exchange).listAliases},
		{"POST /aliases", "PUT /v1/aliases/{name}", (*exchange).putAlias},
		{"POST /aliases/remove", "DELETE /v1/aliases/{name}", (*exchange).removeAlias},
	}
}

// aliasesData is the list of aliases.
type aliasesData struct {
	webmanager.AliasPage
	First bool // nothing comes before
}

func (x *exchange) listAliases() error {
	after := x.r.URL.Query().Get("after")
	data := aliasesData{First: after == ""}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "after": {after}}
	if err := x.get(webmanager.Path("aliases"), query, &data.AliasPage); err != nil {
		return err
	}
	return x.show("aliases", x.t("aliases.title"), data)
}

func (x *exchange) putAlias() error {
	name := strings.TrimSpace(x.form("name"))
	if name == "" {
		return x.again(x.wrong("name", "form.needed"), (*exchange).listAliases)
	}
	var after webmanager.Alias
	if err := x.do(http.MethodPut, webmanager.Path("aliases", name), webmanager.AliasTargets{Targets: words(x.form("targets"))}, &after); err != nil {
		return x.again(err, (*exchange).listAliases)
	}
	return x.done("/aliases", x.t("aliases.saved", after.Address.String(), strings.Join(after.Leads(), ", ")))
}

func (x *exchange) removeAlias() error {
	name := x.form("alias")
	if err := x.do(http.MethodDelete, webmanager.Path("aliases", name), nil, nil); err != nil {
		return x.again(err, (*exchange).listAliases)
	}
	return x.done("/aliases", x.t("aliases.removed", name))
}

// wrong is a refusal of one field that the form itself finds wrong.
func (x *exchange) wrong(field, key string, args ...any) *webmanager.Error {
	return &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("form.wrong"), Fields: []webmanager.Field{{Field: field, Message: x.t(key, args...)}}}
}
