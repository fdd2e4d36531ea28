package auth

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"latchkey/store"
)

const (
	// scramIterations is what RFC 7677 §3 and RFC 5802 §5.1 ask for at least: 1.1 ms of a core.
	scramIterations = 4096
	// maxSCRAMMessage bounds a client's message in octets.
	maxSCRAMMessage = 4096
	// maxSCRAMKeys bounds the keys that are remembered; beyond it any of them is forgotten.
	maxSCRAMKeys = 4096
)

// scramKind is what the mechanisms of one hash have in common, -PLUS or not.
type scramKind struct {
	name string // without -PLUS
	hash scram.HashGeneratorFcn
	size int // of a proof and of a key, in octets
}

// scramKindOf is that of a mechanism. What is none of SHA-1 is one of SHA-256.
func scramKindOf(mechanism string) scramKind {
	switch mechanism {
	case SCRAMSHA1, SCRAMSHA1Plus:
		return scramKind{SCRAMSHA1, scram.SHA1, sha1.Size}
	}
	return scramKind{SCRAMSHA256, scram.SHA256, sha256.Size}
}

// scramServer is the server side of SCRAM-SHA-256, SCRAM-SHA-1 and their -PLUS (RFC 5802, RFC 7677). The name arrives in the first message, but nothing is
// asked of the store about it before the proof is there: the first reply tells of no name whether it exists.
type scramServer struct {
	auth    *Authenticator
	ctx     context.Context // of the connection
	at      Attempt
	kind    scramKind
	binding scram.ChannelBinding
	accept  func(Identity) error

	step     scramStep
	talk     *scram.ServerConversation
	username string
	bound    []byte // what the "c" attribute must be
	// keys are what the library holds the proof against. It takes them at the first message; they are filled in before the last.
	keys scram.StoredCredentials
	id   Identity
}

// scramStep is what the client's next message is.
type scramStep int

const (
	scramInitial scramStep = iota // the client-first-message, if there is an initial response
	scramFirst
	scramFinal
	scramThanks // the empty reply to the server-final-message
	scramOver
)

// NewSCRAMServer returns a server for at.Mechanism: SCRAMSHA256, SCRAMSHA1, or the -PLUS of one. state is the connection's; nil without TLS, or where
// -PLUS is not listed. accept is called once with who logged in, when the client has taken the server's own proof; its error ends the
// exchange. Other errors are ErrIdentity, ErrBinding, those of [Authenticator.APOP], and one for a malformed message.
func (a *Authenticator) NewSCRAMServer(ctx context.Context, at Attempt, state *tls.ConnectionState, accept func(Identity) error) sasl.Server {
	return &scramServer{auth: a, ctx: ctx, at: at, kind: scramKindOf(at.Mechanism), binding: channelBinding(state), accept: accept}
}

// channelBinding returns what the client can bind its proof to: tls-exporter with TLS 1.3 (RFC 9266), tls-unique before (RFC 5929 §3),
// where crypto/tls knows it to be safe. It is empty if there is nothing. The third type, tls-server-end-point, needs the certificate
// that was sent, which a server's connection state does not have.
func channelBinding(state *tls.ConnectionState) scram.ChannelBinding {
	switch {
	case state == nil || !state.HandshakeComplete:
		return scram.ChannelBinding{}
	case state.Version < tls.VersionTLS13:
		return scram.NewTLSUniqueBinding(state.TLSUnique)
	}
	binding, err := scram.NewTLSExporterBinding(state)
	if err != nil {
		return scram.ChannelBinding{}
	}
	return binding
}

// Next takes one message; nil is none, as at the beginning without an initial response.
func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	step := s.step
	s.step = scramOver
	switch {
	case step == scramInitial && response == nil:
		s.step = scramFirst
		return []byte{}, false, nil
	case step == scramThanks && len(response) == 0:
		return nil, true, s.accept(s.id)
	case step == scramInitial, step == scramFirst:
		challenge, err = s.first(response)
		s.step = scramFinal
	case step == scramFinal:
		challenge, err = s.final(response)
		s.step = scramThanks
	default:
		err = errExchange
	}
	if err != nil {
		s.step = scramOver
		return nil, true, err
	}
	return challenge, false, nil
}

// first answers the client-first-message with a nonce, a salt and a number of iterations.
func (s *scramServer) first(message []byte) ([]byte, error) {
	if len(message) > maxSCRAMMessage {
		return nil, errExchange
	}
	var failed error
	server, err := s.kind.hash.NewServer(func(username string) (scram.StoredCredentials, error) {
		s.keys, failed = s.auth.scramOffer(s.ctx, s.kind, username)
		return s.keys, failed
	})
	if err != nil {
		return nil, fmt.Errorf("auth: SCRAM: %w", err)
	}
	if s.auth.nonce != nil {
		server = server.WithNonceGenerator(s.auth.nonce)
	}
	s.talk = server.NewConversationWithChannelBinding(s.binding)
	if s.at.Mechanism != s.kind.name { // it is the -PLUS
		s.talk = server.NewConversationWithChannelBindingRequired(s.binding)
	}
	reply, err := s.talk.Step(string(message))
	switch {
	case failed != nil:
		err = failed
	case err == nil:
		return []byte(reply), s.identify(message)
	case reply == scram.ErrServerDoesSupportChannelBinding, reply == scram.ErrChannelBindingNotSupported,
		reply == scram.ErrUnsupportedChannelBindingType:
		err = ErrBinding // RFC 5802 §6
	default:
		return nil, errExchange // the library's own words may quote the name
	}
	s.auth.logResult(s.at, Identity{}, err)
	return nil, err
}

// identify notes who the client wants to be (RFC 5802 §5.1: "a" and "n"), and what it has to repeat.
func (s *scramServer) identify(message []byte) error {
	s.username = s.talk.Username()
	if other := s.talk.AuthzID(); other != "" {
		var same bool
		if s.username, same = sameMailbox(other, s.username); !same {
			return ErrIdentity
		}
	}
	// The GS2 header: "p=tls-exporter,a=somebody," or "n,,".
	flag, rest, _ := bytes.Cut(message, []byte(","))
	other, _, _ := bytes.Cut(rest, []byte(","))
	s.bound = fmt.Appendf(nil, "%s,%s,", flag, other)
	if flag[0] == 'p' {
		s.bound = append(s.bound, s.binding.Data...)
	}
	return nil
}

// final looks at the proof and answers with the server's own.
func (s *scramServer) final(message []byte) ([]byte, error) {
	bound, ok := parseFinal(message, s.kind.size)
	if !ok {
		return nil, errExchange
	}
	if !hmac.Equal(bound, s.bound) {
		s.auth.logResult(s.at, Identity{}, ErrBinding)
		return nil, ErrBinding
	}
	var reply string
	id, err := s.auth.challenged(s.ctx, s.at, s.username, func(kept secret) bool {
		return s.auth.withKeys(kept, s.kind, s.keys, func() bool {
			reply, _ = s.talk.Step(string(message)) // an error says why the proof is none
			return s.talk.Valid()
		})
	})
	s.id = id
	return []byte(reply), err
}

// parseFinal looks at the form of the client-final-message (RFC 5802 §7), so that what follows can only be wrong, and returns the channel
// binding that it claims. size is that of a proof.
func parseFinal(message []byte, size int) (bound []byte, ok bool) {
	if len(message) > maxSCRAMMessage {
		return nil, false
	}
	fields := strings.Split(string(message), ",")
	if len(fields) < 3 || !strings.HasPrefix(fields[0], "c=") || !strings.HasPrefix(fields[1], "r=") {
		return nil, false
	}
	if slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "m=") }) {
		return nil, false // an extension that must be understood (RFC 5802 §5.1)
	}
	proof, last := strings.CutPrefix(fields[len(fields)-1], "p=")
	octets, err := base64.StdEncoding.DecodeString(proof)
	if !last || err != nil || len(octets) != size {
		return nil, false
	}
	bound, err = base64.StdEncoding.DecodeString(fields[0][len("c="):])
	return bound, err == nil
}

// scramOffer is what a client is told first: a salt that is the same at every attempt, whether the name exists or not, and the number of
// iterations. The keys are still empty.
func (a *Authenticator) scramOffer(ctx context.Context, kind scramKind, username string) (scram.StoredCredentials, error) {
	settings, err := a.o.Settings.Settings(ctx)
	if err != nil {
		return scram.StoredCredentials{}, fmt.Errorf("auth: settings: %w", err)
	}
	key, err := a.sealer.key(ctx)
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	mailbox, _ := mailboxKey(username, settings.Domain)
	salt, err := a.salt(key, kind.name, mailbox)
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: scramIterations},
		StoredKey:  make([]byte, kind.size), ServerKey: make([]byte, kind.size),
	}, err
}

// scramSalt is the salt of a mailbox, known or not, for a kind of SCRAM. It goes with the name, so that not even an account's beginning and
// end show.
func scramSalt(key []byte, kind, mailbox string) ([]byte, error) {
	return hkdf.Expand(sha256.New, key, saltPurpose+"\x00"+kind+"\x00"+mailbox, saltLen)
}

// withKeys fills the keys of a secret into what the library has, and lets it look at the proof. Whatever a wrong proof is of, it costs one
// derivation: keys that were at hand are made up for, so that they tell nobody that the name exists.
func (a *Authenticator) withKeys(s secret, kind scramKind, keys scram.StoredCredentials, proves func() bool) bool {
	which := scramKey{account: s.account.ID, version: s.account.CredentialVersion, kind: kind.name, salt: keys.Salt}
	made, cached := a.scramKeys.get(which)
	if cached = cached && s.usable; !cached {
		var err error
		if made, err = a.derive(kind.hash, s.password, keys.KeyFactors); err != nil {
			a.o.Logger.Error("no keys for SCRAM", "account", s.account.Name, "err", err)
			return false
		}
		if s.usable {
			a.scramKeys.put(which, made)
		}
	}
	copy(keys.StoredKey, made.StoredKey)
	copy(keys.ServerKey, made.ServerKey)
	right := proves()
	if !right && cached {
		_, _ = a.derive(kind.hash, a.decoyPassword, keys.KeyFactors) // for the time it takes
	}
	return right
}

// deriveSCRAM makes the keys of a password (RFC 5802 §3), prepared as the client does it.
func deriveSCRAM(hash scram.HashGeneratorFcn, password string, factors scram.KeyFactors) (scram.StoredCredentials, error) {
	client, err := hash.NewClientUnprepped("", prepared(password), "")
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(factors)
}

// prepared returns a password as SASLprep makes it (RFC 4013, as a stored string).
//
// Deviation: RFC 5802 §2.2 has no passwords that cannot be prepared. One that cannot, with a character that Unicode 3.2 lacks or as no UTF-8, is
// taken as it is, as the programs do that let one be typed.
func prepared(password string) string {
	if made, err := stringprep.SASLprep.Prepare(password); err == nil && made != "" {
		return made
	}
	return password
}

// scramKey names the keys of one password: those of a changed one have another version.
type scramKey struct {
	account store.AccountID
	version uint64
	kind    string
	salt    string
}

// scramKeys remembers keys, so that a client that polls every minute does not cost the iterations every minute. They are only used beside
// a sealed password that opens.
type scramKeys struct {
	mu   sync.Mutex // protects made
	made map[scramKey]scram.StoredCredentials
}

func (k *scramKeys) get(which scramKey) (scram.StoredCredentials, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	made, ok := k.made[which]
	return made, ok
}

func (k *scramKeys) put(which scramKey, made scram.StoredCredentials) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for old := range k.made {
		if len(k.made) < maxSCRAMKeys {
			break
		}
		delete(k.made, old)
	}
	k.made[which] = made
}
