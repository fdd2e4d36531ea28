// Package guard answers "not now" and "not from there": it accepts connections within limits, looks how clients begin, does their TLS
// handshakes, and counts connections over all doors ([Gate]). It counts failed logins ([Logins]): how long their answers wait ([Logins.Delay],
// [Logins.Wait]), who is banned from what ([Ban], [BanDesk]), and which programs have an old password ([StaleDevices]); and what strangers do at the
// doors for mail ([Strangers]). It keeps the terms of POP before SMTP: which address may have a grant ([Hosts], [Grants.LoggedIn]), which
// grants are good now ([Grants.Live], [Grants.Current]), what ends them ([Grants.Guessed]) and why there is none ([Grants.Why]); the budgets of
// recipients outside the domain ([Sending]); and who may use the doors for old clients ([OldClients]). Who somebody is is package auth's
// matter, who may send what package smtp's, and the store keeps the grants.
//
// A grant is good for one mailbox at one IPv4 address (or an IPv6 /64, or one address). All that it depends on is asked each time that it is
// used: the settings, the place, its end, its account's credential. What cannot be asked is no.
package guard
