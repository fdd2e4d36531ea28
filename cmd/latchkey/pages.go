package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"latchkey/config"
	"latchkey/webmanager"
	"latchkey/webmanager/guide"
	"latchkey/webmanager/pages"
)

// pagesDoor is the name of the doors of the Webmanager's pages.
const pagesDoor = "web"

// openManagement takes the addresses of the pages, and the socket of the command line.
func (o *opener) openManagement() (err error) {
	if err := o.openPages(); err != nil {
		return err
	}
	if err := o.openChallenges(); err != nil {
		return err
	}
	if o.process.control, err = webmanager.ListenControl(o.config.Data, o.process.api, o.process.log); err != nil {
		return fmt.Errorf("management socket: %w", err)
	}
	return nil
}

// openPages takes the addresses of the pages, which all have one server: whoever signed in did so at all of them.
func (o *opener) openPages() error {
	p := o.process
	first := len(p.doors)
	for _, address := range o.config.Web.Listen {
		listener, err := listenAt(address)
		if err != nil {
			return fmt.Errorf("web.listen: %w", err)
		}
		p.doors = append(p.doors, door{name: pagesDoor, listener: listener})
	}
	if len(p.doors) == first {
		return nil
	}
	help, err := o.newHelp(p.webURL(o.config))
	if err != nil {
		return err
	}
	server := pages.New(pages.Options{
		API: p.api, Login: o.auth, TLS: o.webTLS(), Secure: strings.HasPrefix(o.config.Web.URL, "https:"), URL: o.config.Web.URL, Proxies: o.config.Proxies,
		Guide: help, GuideHandles: help.handles, Help: helpPath + "/", InGerman: guide.InGerman,
		Connections: connections(o.config), Gate: o.gate, Known: o.auth.Known, Logger: p.log, Now: o.now,
	})
	for i := first; i < len(p.doors); i++ {
		p.doors[i].server = server
	}
	return nil
}

// webURL is where a browser finds the pages; "" if there are none.
func (p *process) webURL(c config.Config) string {
	if c.Web.URL != "" && len(c.Web.Listen) > 0 {
		return c.Web.URL
	}
	for _, d := range p.doors {
		if d.name != pagesDoor || d.listener.Addr().Network() == "unix" {
			continue
		}
		at, err := netip.ParseAddrPort(d.listener.Addr().String())
		if err == nil && (at.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || at.Addr() == netip.IPv6Loopback()) {
			return "http://localhost:" + fmt.Sprint(at.Port()) // by a name, as browsers make passkeys for names only
		}
		if pages.OnThisHost(d.listener) {
			return "http://" + d.listener.Addr().String()
		}
		if err == nil && at.Port() == 443 {
			return "https://" + p.hostname
		}
		if err == nil {
			return "https://" + net.JoinHostPort(p.hostname, fmt.Sprint(at.Port()))
		}
	}
	return ""
}
