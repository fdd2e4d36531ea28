package main

import (
	"context"
	"log/slog"

	"latchkey/guard"
	"latchkey/store"
)

// rememberPage is how many records are read at once.
const rememberPage = 1000

// remember tells the login counters what is known from before the start: the bans, and from where mailboxes were used. What cannot be read is missed, and
// no reason not to start.
func remember(ctx context.Context, st store.Store, logins *guard.Logins, bans *guard.BanKeeper, log *slog.Logger) {
	if err := bans.Load(ctx); err != nil {
		log.Error("bans were not read", "err", err)
	}
	if err := rememberClients(ctx, st, logins); err != nil {
		log.Error("known clients were not read", "err", err)
	}
}

// rememberClients reads the inventory of clients, page by page of the mailboxes.
func rememberClients(ctx context.Context, st store.Store, logins *guard.Logins) error {
	for after := ""; ; {
		accounts, err := st.ListAccounts(ctx, after, rememberPage)
		if err != nil || len(accounts) == 0 {
			return err
		}
		for _, a := range accounts {
			clients, err := st.ListClients(ctx, a.ID, store.MaxClients)
			if err != nil {
				return err
			}
			for _, c := range clients {
				if c.Address.IsValid() {
					logins.Remember(c.Last, c.Address, a.Name)
				}
			}
		}
		after = accounts[len(accounts)-1].Name
	}
}
