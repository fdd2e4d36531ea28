package guide

import (
	"latchkey/internal/clientsetup"
)

// Client is a mail program, or a family of them, that has a page.
type Client struct {
	// Name is that of its page in URLs. It never changes.
	Name string
	// Title is what people call it, German where it is another.
	Title, German string
	// Fetch and Send are the kinds that the page may tell of, in order of preference: the first that the server has is in its table. Those of Also
	// are told beside it.
	Fetch, Send, Also []clientsetup.Kind
	// Dialogues are files of testdata, without .txt, that show the program using each of those kinds.
	Dialogues []string
}

// Kinds of which several programs are.
var (
	fetchTLS      = clientsetup.Kind{Protocol: clientsetup.POP3, Security: clientsetup.TLS, Login: clientsetup.Password}
	fetchSTLS     = clientsetup.Kind{Protocol: clientsetup.POP3, Security: clientsetup.STARTTLS, Login: clientsetup.Password}
	fetchClear    = clientsetup.Kind{Protocol: clientsetup.POP3, Security: clientsetup.Clear, Login: clientsetup.Password}
	fetchOldTLS   = clientsetup.Kind{Protocol: clientsetup.POP3, Security: clientsetup.TLS, Login: clientsetup.Password, Old: true}
	fetchOldClear = clientsetup.Kind{Protocol: clientsetup.POP3, Security: clientsetup.Clear, Login: clientsetup.Password, Old: true}
	fetchOldAPOP  = clientsetup.Kind{Protocol: clientsetup.POP3, Security: clientsetup.Clear, Login: clientsetup.Challenge, Old: true}

	sendTLS      = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.TLS, Login: clientsetup.Password}
	sendSTARTTLS = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.STARTTLS, Login: clientsetup.Password}
	sendClear    = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.Clear, Login: clientsetup.Password}
	sendOldTLS   = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.TLS, Login: clientsetup.Password, Old: true}
	sendOldClear = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.Clear, Login: clientsetup.Password, Old: true}
	sendOldCRAM  = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.Clear, Login: clientsetup.Challenge, Old: true}

	afterFetch      = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.STARTTLS, Login: clientsetup.FetchFirst}
	afterFetchClear = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.Clear, Login: clientsetup.FetchFirst}
	fromNetwork     = clientsetup.Kind{Protocol: clientsetup.SMTP, Security: clientsetup.Clear, Login: clientsetup.Network}
)

type kinds = []clientsetup.Kind

// clients is the table, in the order of the index: what most people have comes first.
var clients = [...]Client{
	{
		Name: "thunderbird", Title: "Thunderbird",
		Fetch: kinds{fetchTLS, fetchSTLS, fetchClear}, Send: kinds{sendTLS, sendSTARTTLS, sendClear},
		Dialogues: []string{"thunderbird_fetch", "thunderbird_send"},
	},
	{
		Name: "outlook", Title: "Outlook (classic)", German: "Outlook (klassisch)",
		Fetch: kinds{fetchTLS}, Send: kinds{sendTLS, sendSTARTTLS}, Also: kinds{afterFetch},
		Dialogues: []string{"outlook_fetch", "outlook_send", "outlook_send_after_fetch"},
	},
	{
		Name: "outlook-new", Title: "Outlook (new)", German: "Outlook (neu)",
		Fetch: kinds{fetchTLS}, Send: kinds{sendTLS, sendSTARTTLS}, Dialogues: []string{"outlook_new_fetch", "outlook_new_send"},
	},
	{
		Name: "ios", Title: "iPhone and iPad", German: "iPhone und iPad",
		Fetch: kinds{fetchTLS}, Send: kinds{sendTLS, sendSTARTTLS}, Dialogues: []string{"ios_fetch", "ios_send"},
	},
	{
		Name: "android", Title: "Android: Thunderbird and K-9 Mail", German: "Android: Thunderbird und K-9 Mail",
		Fetch: kinds{fetchTLS, fetchSTLS}, Send: kinds{sendTLS, sendSTARTTLS}, Dialogues: []string{"android_fetch", "android_send"},
	},
	{
		Name: "apple-mail", Title: "Apple Mail on the Mac", German: "Apple Mail auf dem Mac",
		Fetch: kinds{fetchTLS, fetchSTLS}, Send: kinds{sendTLS, sendSTARTTLS}, Dialogues: []string{"apple_mail_fetch", "apple_mail_send"},
	},
	{
		Name: "eudora", Title: "Eudora",
		Fetch: kinds{fetchOldAPOP, fetchOldClear, fetchClear}, Send: kinds{sendOldCRAM, sendClear}, Also: kinds{fetchTLS, sendTLS, afterFetchClear},
		Dialogues: []string{"eudora_fetch_apop", "eudora_fetch", "eudora_send_cram", "eudora_send", "eudora_send_after_fetch"},
	},
	{
		Name: "outlook-express", Title: "Outlook Express",
		Fetch: kinds{fetchOldTLS, fetchOldClear, fetchClear}, Send: kinds{sendOldTLS, sendOldClear, sendClear}, Also: kinds{afterFetchClear},
		Dialogues: []string{"outlook_express_fetch", "outlook_express_send", "outlook_express_send_after_fetch"},
	},
	{
		Name: "pegasus", Title: "Pegasus Mail",
		Fetch: kinds{fetchTLS, fetchSTLS, fetchOldClear}, Send: kinds{sendTLS, sendSTARTTLS, sendOldCRAM}, Also: kinds{afterFetchClear},
		Dialogues: []string{"pegasus_fetch", "pegasus_send", "pegasus_send_cram", "pegasus_send_after_fetch"},
	},
	{
		Name: "printer", Title: "Printers and scanners", German: "Drucker und Scanner",
		Fetch: kinds{fetchTLS, fetchOldAPOP, fetchOldClear}, Send: kinds{sendTLS, sendSTARTTLS, sendOldClear}, Also: kinds{afterFetchClear, fromNetwork},
		Dialogues: []string{"printer_fetch", "printer_fetch_apop", "printer_send", "printer_send_after_fetch", "printer_send_network"},
	},
	{
		Name: "unix", Title: "fetchmail, mutt and msmtp", German: "fetchmail, mutt und msmtp",
		Fetch: kinds{fetchTLS, fetchSTLS}, Send: kinds{sendTLS, sendSTARTTLS}, Dialogues: []string{"fetchmail_fetch", "mutt_fetch", "msmtp_send"},
	},
}

// Clients returns the programs that have a page, in the order of the index.
func Clients() []Client { return append([]Client(nil), clients[:]...) }

// title is what people call the program in a language.
func (c Client) title(l clientsetup.Lang) string {
	if l == clientsetup.German && c.German != "" {
		return c.German
	}
	return c.Title
}

// find returns a program by its name.
func find(name string) (Client, bool) {
	for _, c := range clients {
		if c.Name == name {
			return c, true
		}
	}
	return Client{}, false
}
