package setup

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"

	"latchkey/internal/clientsetup"
)

// Name spaces of autodiscover (MS-OXDSCLI §2.2.1).
const (
	responseSpace = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
	outlookSpace  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
	// maxDepth bounds how deep elements of a request may be nested; Outlook's are three deep.
	maxDepth = 16
)

// Error codes of autodiscover (MS-OXDSCLI §2.2.4.1.1.2).
const (
	codeNotFound       = 500
	codeInvalidRequest = 600
	codeNoProvider     = 601
)

var messages = map[int]string{
	codeNotFound: "The email address cannot be found.", codeInvalidRequest: "Invalid Request", codeNoProvider: "Provider is not available",
}

// outlookResponse is the document that Outlook gets.
type outlookResponse struct {
	XMLName  xml.Name        `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
	Response outlookSettings `xml:"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a Response"`
}

type outlookSettings struct {
	Name    string         `xml:"User>DisplayName"`
	Account outlookAccount `xml:"Account"`
}

type outlookAccount struct {
	Type      string            `xml:"AccountType"`
	Action    string            `xml:"Action"`
	Protocols []outlookProtocol `xml:"Protocol"`
}

// outlookProtocol has the elements of MS-OXDSCLI §2.2.4.1.1.1.2.6 that are for POP3 and SMTP. What is not said is on, therefore all is said.
type outlookProtocol struct {
	Type           string `xml:"Type"`
	Server         string `xml:"Server"`
	Port           int    `xml:"Port"`
	LoginName      string `xml:"LoginName,omitempty"`
	DomainRequired string `xml:"DomainRequired"`
	SPA            string `xml:"SPA"`
	SSL            string `xml:"SSL"`
	Encryption     string `xml:"Encryption"`
	AuthRequired   string `xml:"AuthRequired"`
	UsePOPAuth     string `xml:"UsePOPAuth,omitempty"`
	SMTPLast       string `xml:"SMTPLast,omitempty"`
}

// outlookError is the document of a refusal.
type outlookError struct {
	XMLName xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
	Error   struct {
		Code    int    `xml:"ErrorCode"`
		Message string `xml:"Message"`
		Debug   string `xml:"DebugData"`
	} `xml:"Response>Error"`
}

// encryptions are the words of autodiscover; SSL is the older element, which Outlook 2003 and others read.
var encryptions = map[clientsetup.Security]string{clientsetup.TLS: "SSL", clientsetup.STARTTLS: "TLS", clientsetup.Clear: "None"}

// autodiscover answers Outlook. GET is what it asks plain HTTP for a redirect, and people their browser.
func (h *Handler) autodiscover(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && !reads(w, r) {
		return
	}
	text, err := body(w, r)
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // whoever asked has gone
	}
	request, err := parseRequest(text)
	if err != nil {
		h.refuse(w, r, codeInvalidRequest)
		return
	}
	if request.schema != outlookSpace {
		h.refuse(w, r, codeNoProvider) // ActiveSync, for one
		return
	}
	s, ok, err := h.setup(r.Context(), request.address)
	switch {
	case errors.Is(err, errNoWay):
		h.refuse(w, r, codeNoProvider)
	case err != nil:
		h.fail(w, r, err)
	case !ok:
		h.refuse(w, r, codeNotFound)
	default:
		h.writeXML(w, r, outlookResponse{Response: outlookSettings{
			Name: s.Address, Account: outlookAccount{Type: "email", Action: "settings", Protocols: outlookProtocols(s)},
		}})
	}
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, code int) {
	var e outlookError
	e.Error.Code, e.Error.Message = code, messages[code]
	h.writeXML(w, r, e)
}

func (h *Handler) writeXML(w http.ResponseWriter, r *http.Request, document any) {
	text, err := xml.MarshalIndent(document, "", "  ")
	if err != nil {
		h.fail(w, r, err)
		return
	}
	write(w, "text/xml; charset=utf-8", append([]byte(xml.Header), append(text, '\n')...))
}

// outlookProtocols is one way to fetch and one to send, as Outlook takes one of each. To send, it can log in with the name of the incoming mail
// (UsePOPAuth) or log on to the incoming mail server first (SMTPLast); its window offers the one or the other.
func outlookProtocols(s clientsetup.Setup) []outlookProtocol {
	login := clientsetup.Password
	if s.SMTPLast {
		login = clientsetup.FetchFirst
	}
	fetch, send := bestOf(s.Fetch, clientsetup.Password), bestOf(s.Send, login)
	in, out := outlookWay("POP3", fetch), outlookWay("SMTP", send)
	out.UsePOPAuth, out.SMTPLast = onOff(send.Login == clientsetup.Password), onOff(send.Login == clientsetup.FetchFirst)
	return []outlookProtocol{in, out}
}

// bestOf is the first way with a kind of login, or else the first of all.
func bestOf(ways []clientsetup.Way, login clientsetup.Login) clientsetup.Way {
	for _, w := range ways {
		if w.Login == login {
			return w
		}
	}
	return ways[0]
}

func outlookWay(kind string, w clientsetup.Way) outlookProtocol {
	return outlookProtocol{
		Type: kind, Server: w.Host, Port: w.Port, LoginName: w.User, DomainRequired: "off", SPA: "off",
		SSL: onOff(w.Security != clientsetup.Clear), Encryption: encryptions[w.Security], AuthRequired: onOff(w.User != ""),
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// discoverRequest is what Outlook asks.
type discoverRequest struct {
	address, schema string
}

// errRequest is given for what is not the document that Outlook sends.
var errRequest = errors.New("setup: not an autodiscover request")

// parseRequest reads a request. A document type declaration is refused, so there are no entities but those of XML itself; name spaces do not
// count, as programs differ in them.
func parseRequest(text []byte) (q discoverRequest, err error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	var path []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && q.address != "" && len(path) == 0 {
			return q, nil
		}
		if err != nil {
			return discoverRequest{}, errRequest
		}
		switch t := token.(type) {
		case xml.Directive:
			return discoverRequest{}, errRequest
		case xml.StartElement:
			path = append(path, t.Name.Local)
			if len(path) > maxDepth || path[0] != "Autodiscover" {
				return discoverRequest{}, errRequest
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			switch strings.Join(path, "/") {
			case "Autodiscover/Request/EMailAddress":
				q.address += strings.TrimSpace(string(t))
			case "Autodiscover/Request/AcceptableResponseSchema":
				q.schema += strings.TrimSpace(string(t))
			}
		}
	}
}

// jsonAnswer and jsonError are the documents of autodiscover.json.
type jsonAnswer struct {
	Protocol string
	URL      string `json:"Url"`
}

type jsonError struct {
	ErrorCode, ErrorMessage string
}

// autodiscoverJSON tells Outlook where the XML is: ?Email=, or the address at the end of the path, and ?Protocol=, in any letter case.
func (h *Handler) autodiscoverJSON(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	address, _ := parameter(r, "email")
	if path := r.URL.Path; len(path) > len(autodiscoverJSON+"/v1.0/") {
		address = strings.TrimSuffix(path[len(autodiscoverJSON+"/v1.0/"):], "/")
	}
	protocol, _ := parameter(r, "protocol")
	_, ok, err := h.setup(r.Context(), address)
	switch {
	case err != nil && !errors.Is(err, errNoWay):
		h.fail(w, r, err)
	case address == "" || protocol == "":
		writeJSON(w, http.StatusBadRequest, jsonError{"MandatoryParameterMissing", "Email and Protocol are to be given."})
	case !ok:
		writeJSON(w, http.StatusNotFound, jsonError{"UserNotFound", "The address is not of this domain."})
	case !strings.EqualFold(protocol, "AutodiscoverV1"):
		writeJSON(w, http.StatusBadRequest, jsonError{"InvalidProtocol", "The supported protocol is AutodiscoverV1."})
	default:
		writeJSON(w, http.StatusOK, jsonAnswer{"AutodiscoverV1", h.options.Base + autodiscoverXML})
	}
}

func writeJSON(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document) // whoever asked may have gone
}
