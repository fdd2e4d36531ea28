package refusal

// The names, in the order of the table.
const (
	// Who may send out of the domain.
	AuthRequired        Name = "auth-required"
	OwnDomain           Name = "own-domain-without-auth"
	SenderNotYours      Name = "sender-not-yours"
	FromNotYours        Name = "from-not-yours"
	FromNotHere         Name = "from-not-here"
	RelayDenied         Name = "relay-denied"
	RelayNoGrant        Name = "relay-no-grant"
	RelayGrantExpired   Name = "relay-grant-expired"
	RelayExpiredFamily  Name = "relay-expired-other-family"
	RelayGrantEnded     Name = "relay-grant-ended"
	RelayGrantSpent     Name = "relay-grant-spent"
	RelayOtherFamily    Name = "relay-other-family"
	RelayShared         Name = "relay-shared-address"
	RelayUnknownSender  Name = "relay-unknown-sender"
	RelayMailboxLimit   Name = "relay-mailbox-limit"
	RelayAddressLimit   Name = "relay-address-limit"
	RelayTries          Name = "relay-tries"
	OutgoingOff         Name = "outgoing-mail-off"
	RecipientRouted     Name = "recipient-routed"
	NullSenderRecipient Name = "null-sender-recipients"

	// Logging in.
	AuthWrongPassword Name = "auth-wrong-password"
	AuthSuspended     Name = "auth-suspended"
	AuthOtherIdentity Name = "auth-other-identity"
	AuthThrottled     Name = "auth-throttled"
	AuthBusy          Name = "auth-busy"
	AuthCleartext     Name = "auth-cleartext"
	AuthMechanism     Name = "auth-mechanism"
	AuthSPA           Name = "auth-spa"
	AuthMalformed     Name = "auth-malformed"
	AuthNotHere       Name = "auth-not-here"
	AuthInTransaction Name = "auth-in-transaction"
	AuthFailures      Name = "auth-failures"
	AuthChanged       Name = "auth-changed"
	AuthOldClient     Name = "auth-old-client"
	LoginDelay        Name = "login-delay"
	MailboxRemoved    Name = "mailbox-removed"
	MaildropInUse     Name = "maildrop-in-use"
	MaildropTakenOver Name = "maildrop-taken-over"

	// The recipients.
	RecipientUnknown   Name = "recipient-unknown"
	RecipientSuspended Name = "recipient-suspended"
	RecipientFull      Name = "recipient-full"
	DomainFull         Name = "domain-full"
	RecipientSyntax    Name = "recipient-syntax"
	RecipientsUnknown  Name = "recipients-unknown"
	RecipientsTooMany  Name = "recipients-too-many"
	SenderSyntax       Name = "sender-syntax"
	AddressUTF8        Name = "address-utf8"

	// The transaction.
	TransactionOpen    Name = "transaction-open"
	TransactionMissing Name = "transaction-missing"
	TransactionEmpty   Name = "transaction-empty"
	EnvelopeIDTooLong  Name = "envelope-id-too-long"
	OriginalRecipient  Name = "original-recipient"

	// The message.
	MessageTooLarge  Name = "message-too-large"
	MessageBareCR    Name = "message-bare-cr"
	MessageBareLF    Name = "message-bare-lf"
	MessageLongLine  Name = "message-long-line"
	MessageLoop      Name = "message-loop"
	MessageDamaged   Name = "message-damaged"
	HeaderTooLarge   Name = "header-too-large"
	HeaderFields     Name = "header-fields"
	HeaderLongLine   Name = "header-long-line"
	HeaderNUL        Name = "header-nul"
	HeaderIncomplete Name = "header-incomplete"
	HeaderFromLines  Name = "header-from-lines"

	// The connection.
	ConnectionSlow    Name = "connection-slow"
	ConnectionLost    Name = "connection-lost"
	ConnectionClosing Name = "connection-closing"
	ConnectionsFull   Name = "connections-full"
	ConnectionClear   Name = "connection-without-tls"

	// This server.
	ServerFull       Name = "server-full"
	ServerStopping   Name = "server-stopping"
	ServerDisk       Name = "server-disk"
	ServerPanic      Name = "server-panic"
	TemporaryFailure Name = "temporary-failure"
)
