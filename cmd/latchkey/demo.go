package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"latchkey/cli"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/store"
	"latchkey/webmanager"
)

// The demo's names, and its files in its directory beside the data. What browsers and mail programs are told ends in .localhost, which most of them know to
// be this machine without asking anybody (RFC 6761 §6.3).
const (
	demoDomain   = "demo.localhost"
	demoHost     = "127.0.0.1"
	demoCertFile = "demo-cert.pem"
	demoKeyFile  = "demo-key.pem"
)

// What is added to the port base.
const (
	offsetMX         = 25
	offsetPOP3       = 110
	offsetSMTPS      = 465
	offsetSubmission = 587
	offsetPOP3S      = 995
	offsetWeb        = 80
)

// demo runs the demonstration domain until stop ends. Everything is on loopback; a second start goes on with the same data.
func demo(stop, abort context.Context, env cli.Env, d cli.Demo) (err error) {
	dir, err := filepath.Abs(d.Dir)
	if err != nil {
		return err
	}
	facts, err := readFacts(dir)
	if err != nil {
		return err
	}
	users := demoUsers(facts)
	domain, err := demoData(stop, &env, dir, d.Domain, &users[0])
	if err != nil {
		return err
	}
	log := newLogger(env.Stderr, config.Log{})
	st, err := openServed(stop, dir, log)
	if err != nil {
		return openError(dir, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := putFactsAside(dir); err != nil {
		return err
	}
	api := offlineAPI(stop, config.Config{Data: dir}, st, domain, log)
	for _, u := range users {
		if err := u.ensure(stop, api); err != nil {
			return err
		}
	}
	c, err := demoConfig(dir, domain, d.PortBase)
	if err != nil {
		return err
	}
	p, err := wire(stop, c, st, log, time.Now)
	if err != nil {
		return fmt.Errorf("%w; --port-base chooses other ports", err)
	}
	return p.run(stop, abort, func() error {
		facts := demoFacts(domain, users, c.TLS.Cert, d.PortBase)
		if err := writeFacts(dir, facts); err != nil {
			return err
		}
		return printDemo(env.Stdout, facts, dir, p.fingerprint)
	})
}

// demoData makes the data directory unless it is there, and returns the domain that it holds.
func demoData(ctx context.Context, env *cli.Env, dir, wanted string, postmaster *demoUser) (domain string, err error) {
	domain = demoDomain
	st, err := openStore(ctx, dir)
	switch {
	case err == nil:
		settings, err := st.Settings(ctx)
		if err := errors.Join(err, st.Close()); err != nil {
			return "", err
		}
		domain = settings.Domain
		if wanted != "" && wanted != domain {
			return "", fmt.Errorf("%s holds the domain %s already; --data names another directory", dir, domain)
		}
	case !errors.Is(err, store.ErrNotInitialised) && !errors.Is(err, os.ErrNotExist):
		return "", openError(dir, err)
	case wanted != "":
		domain = wanted
	}
	err = cli.InitDomain(ctx, env, dir, domain, postmaster.name, postmaster.password)
	if errors.Is(err, cli.ErrComplete) {
		return domain, nil
	}
	postmaster.known = err == nil // InitDomain has just set it
	return domain, err
}

// demoConfig is the configuration that the demo runs with; it makes the certificate unless it is there.
func demoConfig(dir, domain string, base int) (config.Config, error) {
	c := config.Config{
		Data: dir, Hostname: "mail." + domain,
		TLS: config.TLS{Cert: filepath.Join(dir, demoCertFile), Key: filepath.Join(dir, demoKeyFile)},
		Listen: config.Listen{
			MX: demoAddress(base, offsetMX), Submission: demoAddress(base, offsetSubmission), SMTPS: demoAddress(base, offsetSMTPS),
			POP3: demoAddress(base, offsetPOP3), POP3S: demoAddress(base, offsetPOP3S),
		},
		Web: config.Web{Listen: demoAddress(base, offsetWeb)},
	}
	if err := guard.SelfSigned(c.TLS.Cert, c.TLS.Key, []string{"localhost", demoHost, c.Hostname}); err != nil {
		return config.Config{}, fmt.Errorf("certificate: %w", err)
	}
	return c, nil
}

func demoAddress(base, offset int) []string {
	return []string{net.JoinHostPort(demoHost, strconv.Itoa(base+offset))}
}

// demoUser is one of the demo's two mailboxes.
type demoUser struct {
	name, password string
	// known is set when the mailbox, if it is there, has this password.
	known bool
}

// demoUsers are alice and bob, with the passwords of the last run or new ones.
func demoUsers(facts map[string]string) []demoUser {
	users := []demoUser{{name: "alice", password: facts["PASS1"]}, {name: "bob", password: facts["PASS2"]}}
	for i := range users {
		if users[i].known = users[i].password != ""; !users[i].known {
			users[i].password = cli.GeneratePassword()
		}
	}
	return users
}

// ensure makes the mailbox unless it is there. A password that nobody knows any more is replaced.
func (u demoUser) ensure(ctx context.Context, api *webmanager.API) error {
	client := webmanager.InProcess(api, webmanager.Actor{Name: "demo", Role: webmanager.RoleOperator})
	err := client.Do(ctx, "POST", webmanager.Path("accounts"), webmanager.NewAccount{Name: u.name, Password: u.password}, nil)
	var refusal *webmanager.Error
	switch exists := errors.As(err, &refusal) && refusal.Code == webmanager.CodeExists; {
	case !exists:
		return err
	case u.known:
		return nil
	}
	return client.Do(ctx, "PUT", webmanager.Path("accounts", u.name, "password"), webmanager.Password{Password: u.password}, nil)
}
