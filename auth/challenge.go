package auth

import (
	"context"
	"crypto/md5"
	"crypto/subtle"
	"crypto/tls"
	"net/netip"

	"latchkey/guard"
	"latchkey/store"
)

// Mechanisms of challenge logins: the client shows that it has the password and does not send it.
const (
	APOP            = "APOP"
	CRAMMD5         = "CRAM-MD5"
	SCRAMSHA256     = "SCRAM-SHA-256"
	SCRAMSHA256Plus = "SCRAM-SHA-256-PLUS"
	SCRAMSHA1       = "SCRAM-SHA-1"
	SCRAMSHA1Plus   = "SCRAM-SHA-1-PLUS"
)

// decoySealed is opened, in vain, for names that have nothing sealed. It has the length of a usual password's.
const decoySealed = store.Sealed(sealVersion + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")

// secret is what a proof is held against.
type secret struct {
	claimant
	// password is the claimant's if usable, else one that nobody has.
	password string
	usable   bool
}

// APOP says who has this name and a password whose MD5 digest, behind the timestamp of the greeting, is the one given (RFC 1939 §7).
// Its errors are those of a Login; a name that does not exist, an account that may not log in by challenge and one whose password was not
// sealed yet are ErrCredentials, after the same work. The digest may be of the password as it was set or as SASLprep makes it (RFC 6856 §2.2).
func (a *Authenticator) APOP(ctx context.Context, at Attempt, username, timestamp string, digest [16]byte) (Identity, error) {
	at.Mechanism = APOP
	return a.challenged(ctx, at, username, func(s secret) bool {
		return s.proves(func(password string) bool {
			want := md5.Sum([]byte(timestamp + password))
			return subtle.ConstantTimeCompare(want[:], digest[:]) == 1
		})
	})
}

// proves says whether a proof is one of the password as it was set or as SASLprep makes it: programs do the one or the other. Both are always
// looked at.
func (s secret) proves(one func(password string) bool) bool {
	asSet, asPrepared := one(s.password), one(prepared(s.password))
	return asSet || asPrepared
}

// challenged is Login for those who show a proof. proves says whether it is one of the secret; it is called once, in its turn, whoever
// the client wants to be.
func (a *Authenticator) challenged(ctx context.Context, at Attempt, username string, proves func(secret) bool) (Identity, error) {
	id, err := a.challenge(ctx, at, username, proves)
	a.logResult(at, id, err)
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// challenge returns with an error what is known of the identity, for the log.
func (a *Authenticator) challenge(ctx context.Context, at Attempt, username string, proves func(secret) bool) (Identity, error) {
	settings, who, err := a.claim(ctx, username)
	if err != nil {
		return Identity{}, err
	}
	id := who.identity()
	key, err := a.sealer.key(ctx)
	if err != nil {
		return id, err
	}
	s := a.secretOf(settings, who, key)
	if err := a.look(ctx, at, who, func() (bool, error) { return proves(s) && s.usable, nil }); err != nil {
		return id, err
	}
	return a.admitMain(settings, who)
}

// look has a proof of a claimant looked at, in its turn, if one may be looked at now. The answer to a wrong one may wait: see patience.go.
func (a *Authenticator) look(ctx context.Context, at Attempt, who claimant, right func() (bool, error)) error {
	verdict := a.o.Guard.CheckProof(a.o.Now(), at.Remote, who.mailbox)
	if verdict == guard.Throttled || verdict == guard.Banned {
		return a.turnedAway(a.o.Now(), verdict, at.Remote, who)
	}
	l := lookFor(verdict)
	if err := a.beforeLook(ctx, l, at.Remote, who); err != nil {
		return err
	}
	var result error
	wrong := false
	if err := a.turns.run(ctx, a.asker(at.Remote), func() { wrong, result = a.judge(at.Remote, who, right) }); err != nil {
		return err
	}
	if wrong {
		return a.afterGuess(ctx, l, at.Remote, who, result)
	}
	return result
}

// secretOf opens what is sealed for the claimant. One box is opened, whoever it is.
func (a *Authenticator) secretOf(settings store.Settings, who claimant, key []byte) secret {
	account, sealed := who.account, who.known && mayChallenge(settings, who.account) && who.account.Sealed != ""
	if !sealed {
		account.Sealed = decoySealed
	}
	password, ok := a.open(key, account)
	if !sealed || !ok || password == "" {
		return secret{claimant: who, password: a.decoyPassword}
	}
	return secret{claimant: who, password: password, usable: true}
}

// judge decides over one proof, in its turn. wrong is set for one that was looked at.
func (a *Authenticator) judge(remote netip.Addr, who claimant, right func() (bool, error)) (wrong bool, result error) {
	if v := a.o.Guard.CheckProof(a.o.Now(), remote, who.mailbox); v == guard.Throttled || v == guard.Banned {
		return false, a.turnedAway(a.o.Now(), v, remote, who) // by others from there, while it waited
	}
	switch ok, err := right(); {
	case err != nil:
		return false, err
	case !ok:
		a.o.Guard.FailedProof(a.o.Now(), remote, who.mailbox)
		return true, ErrCredentials
	}
	a.o.Guard.Succeeded(a.o.Now(), remote, who.mailbox)
	return false, nil
}

// ChallengeMechanisms lists the SASL mechanisms of challenge logins that a door should offer a client, the strongest first: those of SHA-256
// before those of SHA-1 (RFC 5802 §4), each with its -PLUS where the connection can be bound to, and CRAM-MD5. state is the connection's, nil
// without TLS. At an old-client door they are all listed. Elsewhere they are the SCRAM ones, and only if the settings let every account log in
// so: a program that meets a mechanism which it likes best need not try another, and with most accounts this one would fail.
func (a *Authenticator) ChallengeMechanisms(ctx context.Context, at Attempt, state *tls.ConnectionState) []string {
	if a.sealer.store == nil {
		return nil
	}
	if !at.OldDoor {
		if s, err := a.o.Settings.Settings(ctx); err != nil || !s.OldClientLogin {
			return nil
		}
	}
	list := []string{SCRAMSHA256, SCRAMSHA1}
	if channelBinding(state).IsSupported() {
		list = []string{SCRAMSHA256Plus, SCRAMSHA256, SCRAMSHA1Plus, SCRAMSHA1}
	}
	if at.OldDoor {
		list = append(list, CRAMMD5)
	}
	return list
}
