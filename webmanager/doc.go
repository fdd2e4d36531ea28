// Package webmanager is the JSON API that manages a domain: mailboxes, aliases, settings, grants, queue, trail and audit log.
//
// It owns the one code path for every change, so that every change is checked in the same way and audited: the command line uses
// [API] over the unix socket of the data directory while the server runs ([Control]), and in its own process while it does not
// ([InProcess]); [Client] speaks to both. The pages (package pages) are a client in the server's process. Who asks is an [Actor] with a [Role]: the
// socket admits its owner and root only, who are operators; people sign in ([API.Person], [API.RedeemSignIn]), and programs show tokens
// ([API.TokenActor]). The table of routes says for each the least role, and [OpenAPI] describes it.
//
// A change of settings that allows more than before, or removes mail, must be confirmed with the domain's name; what it would do is said
// before, from the domain's own figures. [API.Run] does what a clock decides.
//
// It does not own configuration (package config) or the data (package store).
//
// Answers are JSON. A refusal is an [Error] with a code for programs, a sentence for people and, where fields were wrong, every one of them.
package webmanager
