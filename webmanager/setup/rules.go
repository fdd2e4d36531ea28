package setup

import (
	"time"

	"latchkey/internal/clientsetup"
	"latchkey/store"
)

// Rules are what the settings of a domain mean for mail programs at now.
func Rules(s store.Settings, now time.Time) clientsetup.Rules {
	return clientsetup.Rules{
		RequireAuth: s.AuthRequired(now), TrustedNetworks: s.TrustedNetworks, POPBeforeSMTP: s.POPBeforeSMTP, OutgoingMail: s.OutgoingMail,
		AuthOnMX: s.AuthOnMX, CleartextLogin: s.CleartextLogin, OldClientLogin: s.OldClientLogin, OldClientNetworks: s.OldClientNetworks,
		MessageSize: s.MessageSize,
	}
}
