package webmanager

import (
	"net/http"

	"latchkey/internal/relayprobe"
	"latchkey/relay/signing"
	"latchkey/store"
)

// route is one line of the table of what the API does.
type route struct {
	method, path string
	// least is the role that may call it for anybody; self, how the owner of a mailbox may for his own.
	least Role
	self  self
	// changes is set where something is changed, or is told that whoever may only read does not get.
	changes bool
	// summary is one sentence for people. query are the parameters; in and out are values of the bodies' types, nil for none.
	summary string
	query   []string
	in, out any
	handle  func(*http.Request) (any, error)
	// raw answers by itself, with the media type rawType; handle is nil then.
	raw     http.HandlerFunc
	rawType string
}

// pattern is what a ServeMux takes.
func (rt *route) pattern() string { return rt.method + " " + rt.path }

// paged are the parameters of a list.
func paged(more ...string) []string { return append([]string{"after", "limit"}, more...) }

// routes is the table of paths.
func (a *API) routes() []route {
	var all []route
	for _, part := range [][]route{
		a.mailboxRoutes(), a.domainRoutes(), a.sendingRoutes(), a.queueRoutes(), a.keyRoutes(), a.operatorRoutes(), a.maildropRoutes(),
	} {
		all = append(all, part...)
	}
	return all
}

// mailboxRoutes are about one mailbox, or the list of them.
func (a *API) mailboxRoutes() []route {
	const own, devices = "/v1/accounts/{name}", "/v1/accounts/{name}/devices"
	return []route{
		{method: "GET", path: "/v1/accounts", least: RoleOwner, summary: "List the mailboxes in order of name.",
			query: paged(), out: AccountPage{}, handle: a.listAccounts},
		{method: "POST", path: "/v1/accounts", least: RoleOwner, changes: true, summary: "Add a mailbox.",
			in: NewAccount{}, out: Account{}, handle: a.addAccount},
		{method: "GET", path: own, least: RoleOwner, self: selfPath, summary: "Show a mailbox.", out: Account{}, handle: a.showAccount},
		{method: "PATCH", path: own, least: RoleOwner, self: selfPath, changes: true, in: AccountChange{}, out: Account{}, handle: a.changeAccount,
			summary: "Change a mailbox; its own owner may change display_name, forward, vacation and pop3, and owner is the operator's. What removes mail " +
				"sooner needs the address in confirm."},
		{method: "GET", path: own + "/vacation", least: RoleOwner, self: selfPath, out: VacationView{}, handle: a.showVacation,
			summary: "Say what a mailbox answers while its owner is away, and whom it answered lately."},
		{method: "POST", path: own + "/vacation/preview", least: RoleOwner, self: selfPath, in: Vacation{}, out: VacationPreview{},
			handle: a.previewVacation, summary: "Show an answer as its reader would see it, and change nothing."},
		{method: "GET", path: own + "/retention", least: RoleOwner, self: selfPath, query: []string{"days"}, out: Retention{}, handle: a.showRetention,
			summary: "Say how long mail of a mailbox is kept, and what days would do."},
		{method: "PUT", path: own + "/password", least: RoleOwner, self: selfPath, changes: true, in: Password{}, handle: a.setPassword,
			summary: "Set the password of a mailbox; whoever changes his own gives the present one in current."},
		{method: "DELETE", path: own, least: RoleOwner, changes: true, summary: "Remove a mailbox and all mail in it, for good.",
			handle: a.removeAccount},
		{method: "POST", path: own + "/release", least: RoleOwner, changes: true, out: SenderReleased{}, handle: a.releaseSender,
			summary: "Let all mail of a mailbox go that is on hold."},
		{method: "POST", path: own + "/purge", least: RoleOwner, changes: true, in: Purge{}, out: Purged{}, handle: a.purgeAccount,
			summary: "Take a mailbox back from somebody who knew its password: a new one, no devices, no grants, nothing on hold."},
		{method: "POST", path: own + "/complaints", least: RoleOperator, changes: true, in: Complaint{}, handle: a.noteComplaint,
			summary: "Count complaints of others about the mail of a mailbox."},
		{method: "GET", path: own + "/totp", least: RoleOwner, self: selfPath, out: TOTP{}, handle: a.showTOTP,
			summary: "Say whether signing in to the pages needs a code of an authenticator too."},
		{method: "POST", path: own + "/totp", least: RoleOwner, self: selfPath, changes: true, in: NewTOTP{}, out: TOTPSecret{}, handle: a.makeTOTP,
			summary: "Make a secret for one's own authenticator; it counts once a code was shown."},
		{method: "PUT", path: own + "/totp", least: RoleOwner, self: selfPath, changes: true, in: TOTPCode{}, handle: a.startTOTP,
			summary: "Show a code, so that codes are asked for from now on."},
		{method: "POST", path: own + "/totp/end", least: RoleOwner, self: selfPath, changes: true, in: NewTOTP{}, handle: a.endTOTP,
			summary: "Ask for codes no more; for one's own mailbox with the present password in current."},
		{method: "GET", path: own + "/passkeys", least: RoleOwner, self: selfPath, out: PasskeyList{}, handle: a.listPasskeys,
			summary: "List the passkeys with which a mailbox signs in to the pages."},
		{method: "POST", path: own + "/passkeys", least: RoleOwner, self: selfPath, changes: true, in: NewPasskey{}, out: PasskeyOptions{},
			handle: a.askPasskey, summary: "Ask for what a browser makes a passkey of one's own with, by the present password."},
		{method: "PUT", path: own + "/passkeys", least: RoleOwner, self: selfPath, changes: true, in: MadePasskey{}, out: Passkey{},
			handle: a.addPasskey, summary: "Keep a passkey that a browser has made."},
		{method: "DELETE", path: own + "/passkeys/{passkey}", least: RoleOwner, self: selfPath, changes: true, handle: a.removePasskey,
			summary: "Remove a passkey, by its number or name."},
		{method: "GET", path: "/v1/clients", least: RoleOwner, self: selfMailbox,
			query: paged("mailbox", "old"), out: ClientPage{}, handle: a.listClients,
			summary: "List the programs that mailboxes are used with."},
		{method: "GET", path: "/v1/devices", least: RoleOwner, self: selfMailbox, query: paged("mailbox"), out: DevicePage{}, handle: a.listDevices,
			summary: "List device credentials."},
		{method: "POST", path: devices, least: RoleOwner, self: selfPath, changes: true, in: DeviceRules{}, out: AddedDevice{}, handle: a.addDevice,
			summary: "Make a password for one device; the answer has it, this once."},
		{method: "GET", path: devices + "/{device}", least: RoleOwner, self: selfPath,
			out: Device{}, handle: a.showDevice, summary: "Show a device credential."},
		{method: "PATCH", path: devices + "/{device}", least: RoleOwner, self: selfPath, changes: true,
			in: DeviceChange{}, out: Device{}, handle: a.changeDevice,
			summary: "Change what a device may do."},
		{method: "DELETE", path: devices + "/{device}", least: RoleOwner, self: selfPath, changes: true,
			handle: a.revokeDevice, summary: "Revoke a device credential."},
	}
}

// domainRoutes are about the domain, and what happened in it.
func (a *API) domainRoutes() []route {
	const alias, suppression = "/v1/aliases/{name}", "/v1/suppressions/{address}"
	return []route{
		{method: "GET", path: "/v1/version", least: RoleMailbox, summary: "Say what runs, and for which domain.",
			out: Version{}, handle: a.showVersion},
		{method: "GET", path: "/v1/overview", least: RoleOwner, query: []string{"days"}, out: Overview{}, handle: a.overview,
			summary: "Say how the domain does: mail, refusals and logins day by day, programs, storage, queue, reputation and the DNS."},
		{method: "GET", path: "/v1/usage", least: RoleOwner, summary: "Say what all mailboxes hold together.", out: DomainUsage{}, handle: a.showUsage},
		{method: "GET", path: "/v1/aliases", least: RoleOwner, summary: "List the aliases in order of name.",
			query: paged(), out: AliasPage{}, handle: a.listAliases},
		{method: "PUT", path: alias, least: RoleOwner, changes: true, summary: "Add or replace an alias; * is the catch-all.",
			in: AliasTargets{}, out: Alias{}, handle: a.putAlias},
		{method: "DELETE", path: alias, least: RoleOwner, changes: true, summary: "Remove an alias.", handle: a.removeAlias},
		{method: "GET", path: "/v1/settings", least: RoleOwner, summary: "Show the settings of the domain.",
			out: SettingsView{}, handle: a.showSettings},
		{method: "PATCH", path: "/v1/settings", least: RoleOwner, changes: true, in: SettingsBody{}, out: SettingsChanged{}, handle: a.changeSettings,
			summary: "Change settings; what allows more than before, or removes mail, needs the domain's name in confirm."},
		{method: "POST", path: "/v1/settings/preview", least: RoleOwner, in: SettingsBody{}, out: SettingsPreview{}, handle: a.previewSettings,
			summary: "Say what a change of settings would do, and change nothing."},
		{method: "GET", path: "/v1/audit", least: RoleOwner, summary: "List who changed what, the newest first.",
			query: []string{"before", "limit"}, out: AuditPage{}, handle: a.listAudit},
		{method: "GET", path: "/v1/suppressions", least: RoleOwner, summary: "List addresses of others that mail is not sent to.",
			query: paged(), out: SuppressionPage{}, handle: a.listSuppressions},
		{method: "PUT", path: suppression, least: RoleOwner, changes: true, summary: "Refuse mail to an address of others.",
			in: NewSuppression{}, out: Suppression{}, handle: a.putSuppression},
		{method: "DELETE", path: suppression, least: RoleOwner, changes: true, summary: "Take mail to an address of others again.",
			handle: a.removeSuppression},
		{method: "GET", path: "/v1/bans", least: RoleOwner, summary: "List who may not log in.", out: BanList{}, handle: a.listBans},
		{method: "POST", path: "/v1/bans", least: RoleOwner, changes: true, summary: "Keep a network from logging in.",
			in: NewBan{}, out: Ban{}, handle: a.addBan},
		{method: "POST", path: "/v1/bans/lift", least: RoleOwner, changes: true, summary: "End bans.",
			in: BanLift{}, out: BanList{}, handle: a.liftBans},
		{method: "GET", path: "/v1/refusals/{code}", least: RoleAnyone, query: []string{"address"}, out: Explanation{}, handle: a.explainRefusal,
			summary: "Explain a refusal; when it was made lately is told to those whom it concerns."},
	}
}

// sendingRoutes are about mail that leaves, and who may send it.
func (a *API) sendingRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/grants", least: RoleOwner, self: selfMailbox,
			query: paged("mailbox", "address", "live"), out: GrantPage{}, handle: a.listGrants,
			summary: "List the grants of POP before SMTP."},
		{method: "POST", path: "/v1/grants/revoke", least: RoleOwner, self: selfHandler, changes: true,
			in: GrantRevocation{}, out: GrantsRevoked{}, handle: a.revokeGrants,
			summary: "End grants: by number, of a mailbox, or all."},
		{method: "GET", path: "/v1/holds", least: RoleOwner, self: selfHandler, summary: "List mailboxes whose mail is put on hold, and from where.",
			out: []Hold{}, handle: a.listHolds},
		{method: "GET", path: "/v1/trail", least: RoleOwner, self: selfMailbox, out: TrailResult{}, handle: a.trail,
			query:   []string{"for", "from", "to", "subject", "mailbox", "since", "until", "before", "limit"},
			summary: "Say what became of messages, the newest first."},
		{method: "POST", path: "/v1/proofs", least: RoleOwner, self: selfHandler, changes: true,
			in: ProofRequest{}, out: ProofToken{}, handle: a.issueProof,
			summary: "Make a proof that a message was delivered; the owner of a mailbox may for what it sent."},
		{method: "POST", path: "/v1/proofs/check", least: RoleAnyone, summary: "Say what a proof of delivery proves.",
			in: ProofCheck{}, out: Proof{}, handle: a.checkProof},
		{method: "GET", path: "/v1/reputation", least: RoleOwner, summary: "Say what blocklists say, and who sent most.",
			out: ReputationView{}, handle: a.showReputation},
	}
}

// queueRoutes are about deliveries that wait.
func (a *API) queueRoutes() []route {
	list := []route{
		{method: "GET", path: "/v1/queue", least: RoleOwner, self: selfSubmitter,
			out: QueuePage{}, handle: a.listQueue, summary: "List deliveries that wait.",
			query: paged("up_to", "message", "submitter", "sender", "recipient", "destination", "host", "held")},
		{method: "GET", path: "/v1/queue/{id}", least: RoleOwner, self: selfHandler, out: store.Job{}, handle: a.showJob,
			summary: "Show a delivery that waits; the owner of a mailbox sees those that it sent."},
	}
	for _, word := range []string{"retry", "hold", "release", "remove"} {
		verb := queueVerbs()[word]
		list = append(list, route{method: "POST", path: "/v1/queue/" + word, least: RoleOwner, changes: true, summary: verb.summary,
			in: QueueAction{}, out: QueueResult{}, handle: a.actOnQueue(verb)})
	}
	return list
}

// maildropRoutes look into a maildrop and change nothing of it. Whoever may only read does not get them: mail of others is no figure, and that somebody
// looked at it is written down.
func (a *API) maildropRoutes() []route {
	const own = "/v1/accounts/{name}/messages"
	return []route{
		{method: "GET", path: own, least: RoleOwner, self: selfPath, changes: true, query: []string{"before", "limit"}, out: MailPage{}, handle: a.listMail,
			summary: "List the messages in a mailbox, the newest first."},
		{method: "GET", path: own + "/{uid}", least: RoleOwner, self: selfPath, changes: true, out: Mail{}, handle: a.showMail,
			summary: "Show a message as text; who shows himself another's is in the audit log, and its owner is told."},
		{method: "GET", path: own + "/{uid}/raw", least: RoleOwner, self: selfPath, changes: true, raw: a.rawMail, rawType: MessageType,
			summary: "Stream a message as it is, on the same terms."},
	}
}

// keyRoutes are about DKIM keys and the DNS.
func (a *API) keyRoutes() []route {
	list := []route{
		{method: "GET", path: "/v1/dkim", least: RoleOwner, summary: "List the DKIM keys, and what comes next for each.",
			out: DKIMKeys{}, handle: a.listDKIM},
		{method: "POST", path: "/v1/dkim", least: RoleOwner, changes: true, summary: "Make DKIM keys.",
			in: NewDKIMKeys{}, out: DKIMKeys{}, handle: a.addDKIM},
		{method: "POST", path: "/v1/dkim/check", least: RoleOwner, changes: true, summary: "Look for the records of all DKIM keys now.",
			out: DKIMKeys{}, handle: a.checkDKIM},
		{method: "GET", path: "/v1/dns", least: RoleOwner, summary: "Say what the domain should publish in the DNS.",
			query: []string{"dane"}, out: DNSRecords{}, handle: a.showDNS},
		{method: "GET", path: "/v1/dns/check", least: RoleOwner, summary: "Compare the DNS with what should be published.",
			query: []string{"dane"}, out: DNSFindings{}, handle: a.checkDNS},
	}
	for _, step := range []struct {
		word, summary string
		do            ringStep
	}{
		{"activate", "Let a DKIM key sign.", (*signing.Ring).Activate},
		{"retire", "Let a DKIM key sign no more.", (*signing.Ring).Retire},
		{"remove", "Forget a DKIM key.", (*signing.Ring).Remove},
	} {
		list = append(list, route{method: "POST", path: "/v1/dkim/{selector}/" + step.word, least: RoleOwner, changes: true, summary: step.summary,
			in: DKIMStep{}, out: DKIMKeys{}, handle: a.dkimStep(step.word, step.do)})
	}
	return list
}

// operatorRoutes are for whoever runs the server.
func (a *API) operatorRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/check", least: RoleOperator, summary: "Read everything that is kept, and say what does not hold together.",
			out: CheckResult{}, handle: a.check},
		{method: "POST", path: "/v1/compact", least: RoleOperator, changes: true, summary: "Give space back to the disk.",
			out: Compacted{}, handle: a.compact},
		{method: "GET", path: "/v1/metrics", least: RoleOperator, out: Metrics{}, handle: a.showMetrics,
			summary: "Say how the store works, and how the certificates stand."},
		{method: "POST", path: "/v1/relay-proof", least: RoleOperator, changes: true, summary: "Prove that strangers cannot send mail through here.",
			out: relayprobe.Report{}, handle: a.proveRelay},
		{method: "POST", path: "/v1/backup", least: RoleOperator, changes: true, summary: "Stream a backup, as " + BackupType + ".",
			raw: a.backup, rawType: BackupType},
		{method: "GET", path: "/v1/tokens", least: RoleOperator, summary: "List the tokens of the JSON API.", out: TokenList{}, handle: a.listTokens},
		{method: "POST", path: "/v1/tokens", least: RoleOperator, changes: true, summary: "Make a token; the answer has it, this once.",
			in: NewToken{}, out: AddedToken{}, handle: a.addToken},
		{method: "DELETE", path: "/v1/tokens/{id}", least: RoleOperator, changes: true, summary: "Revoke a token.", handle: a.revokeToken},
		{method: "POST", path: "/v1/sign-in", least: RoleOperator, changes: true, summary: "Make a link that signs the operator in to the pages, once.",
			out: SignInLink{}, handle: a.makeSignIn},
	}
}
