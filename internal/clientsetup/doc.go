// Package clientsetup knows how a mail program reaches a mailbox: which doors there are, by which encryption and login each is used, and in
// which order they are to be tried, as one pure function of where the server stands, what the domain's owner decided, and the mailbox.
//
// [New] is that function. What shows or sends set-up data (autoconfig, autodiscover, profiles, the help guide, the DNS records) takes it from
// here, so that all of them say the same.
//
// It does not own: the doors themselves, who may log in, and how each mail program wants to be told.
//
// Relevant RFCs: 6186 and 8314 (§3.3, §5.1: SRV names, TLS from the first octet first), 1939 (§7 APOP), 2595 and 3207 (STLS, STARTTLS), 4954 (AUTH).
package clientsetup
