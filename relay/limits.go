package relay

import "time"

// Limits bound what the way out may take. Zero fields mean the defaults.
type Limits struct {
	// Connecting bounds the destinations that are being connected to at once, Transferring those that messages are sent to. A host that
	// does not answer takes of the first only.
	Connecting, Transferring int
	// PerDestination bounds the connections to one destination, and to one host, at once.
	PerDestination int
	// Probe is how many jobs are leased before a connection stands, Batch how many may be leased for one connection.
	Probe, Batch int
	// PerConnection is how many messages go over one connection.
	PerConnection int
	// Hosts and Addresses bound the mail exchangers and the addresses that one attempt tries.
	Hosts, Addresses int
	// Page is how many destinations are asked for at once.
	Page int
	// Dial is for a TCP connection, Greeting for the greeting (RFC 5321 §4.5.3.2.1 wishes for 5 minutes), Hello for each reply to EHLO
	// and STARTTLS, Handshake for TLS. Connect bounds them all together, of all hosts of one attempt.
	Dial, Greeting, Hello, Handshake, Connect time.Duration
	// DialPressed and GreetingPressed take the place of Dial and Greeting while all of Connecting is taken, so that destinations
	// which do not answer make room for those that do.
	DialPressed, GreetingPressed time.Duration
	// Command is for the replies to MAIL and RCPT, Data for that to DATA, Block for each part of a message, End for the last reply
	// (RFC 5321 §4.5.3.2.2 to §4.5.3.2.6). Quit is for QUIT, whose reply nobody needs. Transaction bounds one transaction.
	Command, Data, Block, End, Quit, Transaction time.Duration
	// Rescan is the least time between two looks at all destinations, Wake that between two looks at the new ones. Turn is how long a
	// connection may be one destination's while others wait for it.
	Rescan, Wake, Turn time.Duration
}

// defaultLimits are for a small public server.
func defaultLimits() Limits {
	return Limits{
		Connecting: min(1000, openFiles()/4), Transferring: min(200, openFiles()/4), PerDestination: 20,
		Probe: 10, Batch: 100, PerConnection: 100, Hosts: 5, Addresses: 8, Page: 100,
		Dial: 30 * time.Second, Greeting: 2 * time.Minute, Hello: 2 * time.Minute, Handshake: 30 * time.Second, Connect: 10 * time.Minute,
		DialPressed: 5 * time.Second, GreetingPressed: 10 * time.Second,
		Command: 5 * time.Minute, Data: 2 * time.Minute, Block: 3 * time.Minute, End: 10 * time.Minute, Quit: 2 * time.Second,
		Transaction: 2 * time.Hour,
		Rescan:      100 * time.Millisecond, Wake: 5 * time.Millisecond, Turn: time.Second,
	}
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	d := defaultLimits()
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Connecting, d.Connecting}, {&l.Transferring, d.Transferring}, {&l.PerDestination, d.PerDestination}, {&l.Probe, d.Probe},
		{&l.Batch, d.Batch}, {&l.PerConnection, d.PerConnection}, {&l.Hosts, d.Hosts}, {&l.Addresses, d.Addresses}, {&l.Page, d.Page},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Dial, d.Dial}, {&l.Greeting, d.Greeting}, {&l.Hello, d.Hello}, {&l.Handshake, d.Handshake}, {&l.Connect, d.Connect},
		{&l.DialPressed, d.DialPressed}, {&l.GreetingPressed, d.GreetingPressed}, {&l.Command, d.Command}, {&l.Data, d.Data},
		{&l.Block, d.Block}, {&l.End, d.End}, {&l.Quit, d.Quit}, {&l.Transaction, d.Transaction}, {&l.Rescan, d.Rescan},
		{&l.Wake, d.Wake}, {&l.Turn, d.Turn},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	l.Probe = min(l.Probe, l.Batch)
	return l
}

// lease is how long jobs are leased: longer than a batch can take, because leases are given back and never waited for. A crash voids
// them anyway.
func (l Limits) lease() time.Duration {
	return l.Connect + time.Duration(l.Batch+1)*l.Transaction
}
