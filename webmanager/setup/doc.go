// Package setup lets mail programs set themselves up: it answers what they ask a domain's web server when somebody typed an address.
//
//   - Thunderbird and others: autoconfig, /mail/config-v1.1.xml and /.well-known/autoconfig/mail/config-v1.1.xml (draft-ietf-mailmaint-autoconfig)
//   - Outlook: autodiscover, a POST to /autodiscover/autodiscover.xml and /autodiscover/autodiscover.json (MS-OXDSCLI), in any letter case
//   - Apple Mail and iOS: a configuration profile, /apple/mail.mobileconfig, and a QR code that leads there, /apple/mail.svg
//
// All of it is public and needs no login, so it says nothing that depends on whether an address exists: any address of the domain gets the
// same answer. What is said is package clientsetup's, POP3 before all else.
//
// It does not own: the web server, its certificate, and limits of requests.
package setup
