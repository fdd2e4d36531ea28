package passkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/passkey/passkeytest"
)

const origin = "https://mail.example.com"

// TestAt: browsers make passkeys for names by TLS, and for localhost.
func TestAt(t *testing.T) {
	for _, tt := range []struct{ url, id, origin string }{
		{"https://mail.example.com", "mail.example.com", "https://mail.example.com"},
		{"https://Mail.Example.com:8443", "mail.example.com", "https://mail.example.com:8443"},
		{"http://localhost:2080", "localhost", "http://localhost:2080"},
		{"http://a.localhost:2080", "a.localhost", "http://a.localhost:2080"},
		{"http://mail.example.com", "", ""},
		{"http://notlocalhost", "", ""},
		{"https://127.0.0.1:2080", "", ""},
		{"http://127.0.0.1:2080", "", ""},
		{"https://[::1]", "", ""},
		{"https://", "", ""},
		{"", "", ""},
		{"ftp://mail.example.com", "", ""},
		{"https://a b", "", ""},
	} {
		p, err := At(tt.url, "x")
		if p.id != tt.id || p.Origin() != tt.origin || (tt.id == "") != errors.Is(err, ErrNoName) {
			t.Errorf("%s: %+v, %v", tt.url, p, err)
		}
	}
}

// scene is an owner with an authenticator.
type scene struct {
	*testing.T
	party     Party
	owner     Owner
	device    *passkeytest.Authenticator
	challenge []byte
}

func newScene(t *testing.T) *scene {
	t.Helper()
	party, err := At(origin, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	return &scene{
		T: t, party: party, device: passkeytest.New(origin), challenge: bytes.Repeat([]byte{7}, 32),
		owner: Owner{Handle: bytes.Repeat([]byte{9}, 32), Name: "anna@example.com", Display: "Anna"},
	}
}

// options are those for a new passkey.
func (s *scene) options() []byte {
	s.Helper()
	options, err := s.party.Creation(s.owner, s.challenge, time.Minute)
	if err != nil {
		s.Fatal(err)
	}
	return options
}

// create makes a passkey with the device as it is.
func (s *scene) create() (Key, error) {
	s.Helper()
	response, err := s.device.Create(s.options())
	if err != nil {
		s.Fatal(err)
	}
	return s.party.Created(s.owner, s.challenge, response)
}

// registered has a passkey that is kept.
func registered(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	key, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	s.owner.Keys = []Key{key}
	return s
}

// prove shows a proof with the device as it is.
func (s *scene) prove() (Key, error) {
	s.Helper()
	request, err := s.party.Request(s.challenge, time.Minute)
	if err != nil {
		s.Fatal(err)
	}
	response, err := s.device.Prove(request)
	if err != nil {
		s.Fatal(err)
	}
	claim, err := Read(response)
	if err != nil {
		s.Fatal(err)
	}
	if !bytes.Equal(claim.Handle(), s.device.Handle) {
		s.Errorf("claimed for %x", claim.Handle())
	}
	return s.party.Proved(s.owner, s.challenge, claim)
}

// TestOptions: what browsers are asked. A passkey is kept by the authenticator, which knows its user, and is made once on each.
func TestOptions(t *testing.T) {
	s := registered(t)
	var made struct {
		RP, User               map[string]string
		Challenge, Attestation string
		Timeout                int
		Params                 []struct{ Alg int }    `json:"pubKeyCredParams"`
		Exclude                []struct{ ID string }  `json:"excludeCredentials"`
		Selection              map[string]any         `json:"authenticatorSelection"`
		Extensions             map[string]interface{} `json:"extensions"`
	}
	if err := json.Unmarshal(s.options(), &made); err != nil {
		t.Fatal(err)
	}
	if made.RP["id"] != "mail.example.com" || made.RP["name"] != "example.com" || made.User["id"] != Text(s.owner.Handle) ||
		made.User["name"] != "anna@example.com" || made.User["displayName"] != "Anna" || made.Challenge != Text(s.challenge) ||
		made.Attestation != "none" || made.Timeout != 60_000 || len(made.Extensions) != 0 {
		t.Errorf("got %+v", made)
	}
	if len(made.Exclude) != 1 || made.Exclude[0].ID != Text(s.owner.Keys[0].ID) {
		t.Errorf("excluded: %v", made.Exclude)
	}
	if want := map[string]any{"residentKey": "required", "requireResidentKey": true, "userVerification": "required"}; !reflect.DeepEqual(made.Selection, want) {
		t.Errorf("selection: %v", made.Selection)
	}
	if len(made.Params) != 3 || made.Params[0].Alg != -7 || made.Params[1].Alg != -8 || made.Params[2].Alg != -257 {
		t.Errorf("algorithms: %v", made.Params)
	}
	request, err := s.party.Request(s.challenge, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var asked map[string]any
	if err := json.Unmarshal(request, &asked); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"challenge": Text(s.challenge), "rpId": "mail.example.com", "timeout": 60_000.0, "userVerification": "required"}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("got %v, want %v", asked, want)
	}
}

// TestCreated: what is kept of a passkey, and every way in which its making is refused.
func TestCreated(t *testing.T) {
	s := newScene(t)
	s.device.Flags |= passkeytest.Eligible | passkeytest.BackedUp
	s.device.Count = 5
	key, err := s.create()
	if err != nil || !bytes.Equal(key.ID, s.device.ID) || len(key.Public) < 70 || key.Count != 5 || !key.Synced() || !slices.Equal(key.Transports, []string{"internal"}) {
		t.Fatalf("got %+v, %v", key, err)
	}
	for name, spoil := range map[string]func(*scene){
		"another origin":        func(s *scene) { s.device.Origin = "https://mail.example.com.evil.example" },
		"another port":          func(s *scene) { s.device.Origin = origin + ":8443" },
		"without TLS":           func(s *scene) { s.device.Origin = "http://mail.example.com" },
		"another party":         func(s *scene) { s.device.RPID = "example.com" },
		"another challenge":     func(s *scene) { s.device.Challenge = Text(bytes.Repeat([]byte{8}, 32)) },
		"a proof's type":        func(s *scene) { s.device.Type = "webauthn.get" },
		"nobody was there":      func(s *scene) { s.device.Flags = passkeytest.Verified },
		"user not verified":     func(s *scene) { s.device.Flags = passkeytest.Present },
		"a known one":           func(s *scene) { s.owner.Keys, s.device.ID = []Key{{ID: []byte("known")}}, []byte("known") },
		"a name that is longer": func(s *scene) { s.device.ID = make([]byte, MaxID+1) },
	} {
		s := newScene(t)
		spoil(s)
		if key, err := s.create(); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, key, err)
		}
	}
	s = newScene(t)
	s.device.ID = make([]byte, MaxID)
	if _, err := s.create(); err != nil {
		t.Errorf("the longest name: %v", err)
	}
}

// TestProved: a proof is right for its owner, its challenge and its pages, once its user was verified; and the counter goes on.
func TestProved(t *testing.T) {
	s := registered(t)
	key, err := s.prove()
	if err != nil || key.Count != 1 || !bytes.Equal(key.Public, s.owner.Keys[0].Public) || !bytes.Equal(key.ID, s.device.ID) {
		t.Fatalf("got %+v, %v", key, err)
	}
	for name, spoil := range map[string]func(*scene){
		"another origin":        func(s *scene) { s.device.Origin = "https://evil.example" },
		"another party":         func(s *scene) { s.device.RPID = "evil.example" },
		"another challenge":     func(s *scene) { s.device.Challenge = Text(bytes.Repeat([]byte{8}, 32)) },
		"a type of creation":    func(s *scene) { s.device.Type = "webauthn.create" },
		"nobody was there":      func(s *scene) { s.device.Flags = passkeytest.Verified },
		"user not verified":     func(s *scene) { s.device.Flags = passkeytest.Present },
		"it became one to sync": func(s *scene) { s.device.Flags |= passkeytest.Eligible },
		"another's handle":      func(s *scene) { s.device.Handle = bytes.Repeat([]byte{1}, 32) },
		"no handle":             func(s *scene) { s.device.Handle = nil },
		"another passkey":       func(s *scene) { s.device.ID = []byte("another") },
		"it was removed":        func(s *scene) { s.owner.Keys = nil },
		"another's key":         func(s *scene) { s.owner.Keys[0].Public = registered(t).owner.Keys[0].Public },
	} {
		s := registered(t)
		spoil(s)
		if key, err := s.prove(); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", name, key, err)
		}
	}
}

// TestCounter: an authenticator that counts goes on counting, one that does not stays at 0.
func TestCounter(t *testing.T) {
	for _, tt := range []struct {
		kept, shown uint32
		copied      bool
	}{
		{0, 0, false}, {0, 1, false}, {4, 5, false}, {5, 5, true}, {5, 4, true}, {5, 0, true},
	} {
		s := registered(t)
		s.owner.Keys[0].Count, s.device.Count, s.device.Step = tt.kept, tt.shown, 0
		key, err := s.prove()
		if errors.Is(err, ErrCopied) != tt.copied || !tt.copied && (err != nil || key.Count != tt.shown) || tt.copied && key.Count != tt.kept {
			t.Errorf("%d after %d: %d, %v", tt.shown, tt.kept, key.Count, err)
		}
	}
}

// TestMalformed: what is no response at all is that, and the bound holds.
func TestMalformed(t *testing.T) {
	s := registered(t)
	for _, text := range []string{"", "x", "null", "[]", "{}", `{"id":"AA","rawId":"AA","type":"public-key","response":{}}`, `"` + strings.Repeat("x", MaxResponse) + `"`} {
		if _, err := Read([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("read %.60q: %v", text, err)
		}
		if _, err := s.party.Created(s.owner, s.challenge, []byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("created %.60q: %v", text, err)
		}
	}
	request, err := s.party.Request(s.challenge, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.device.Prove(request)
	if err != nil {
		t.Fatal(err)
	}
	padded := append(response[:len(response):len(response)], bytes.Repeat([]byte(" "), MaxResponse-len(response))...)
	if _, err := Read(padded); err != nil {
		t.Errorf("the longest: %v", err)
	}
	if _, err := Read(append(padded, ' ')); !errors.Is(err, ErrMalformed) {
		t.Errorf("longer: %v", err)
	}
}

// FuzzResponses: whatever a browser sends ends in an answer.
func FuzzResponses(f *testing.F) {
	s := newScene(&testing.T{})
	made, _ := s.device.Create(s.options())
	request, _ := s.party.Request(s.challenge, time.Minute)
	shown, _ := s.device.Prove(request)
	for _, seed := range [][]byte{made, shown, []byte("{}")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		if key, err := s.party.Created(s.owner, s.challenge, response); err == nil && len(key.Public) == 0 {
			t.Error("a passkey without a key")
		}
		if claim, err := Read(response); err == nil {
			if _, err := s.party.Proved(s.owner, s.challenge, claim); err == nil {
				t.Error("nobody has a passkey")
			}
		}
	})
}
