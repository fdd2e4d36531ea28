package webmanager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

const (
	// MaxTokens bounds the tokens of the JSON API, MaxTokenName the name of one, in octets, MaxTokenDays how long it may last.
	MaxTokens    = 50
	MaxTokenName = 100
	MaxTokenDays = 3660
	// tokensName is where the store keeps them.
	tokensName = "web/tokens"
	// tokenPrefix begins each token, so that a scanner of source code can find one that leaked. Its id follows, and 128 random bits.
	tokenPrefix = "lkt_"
	// maxTokenText bounds what is looked at of a token, in octets.
	maxTokenText = 64
)

// ErrNoToken is what [API.TokenActor] returns for a token that is none, or none any more.
var ErrNoToken = errors.New("webmanager: not a token")

// Token is a token of the JSON API as the API shows it: who has it may do what its role may.
type Token struct {
	// ID is a short text; the token itself is not kept.
	ID   string `json:"id"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Mailbox is the mailbox of a token of that role, empty if it was removed.
	Mailbox string `json:"mailbox,omitempty"`
	// ReadOnly takes all changes from it.
	ReadOnly bool      `json:"read_only"`
	Created  time.Time `json:"created"`
	// Expires is when it ends by itself; zero is never.
	Expires time.Time `json:"expires,omitzero"`
}

// TokenList are all tokens, at most MaxTokens, the oldest first.
type TokenList struct {
	Tokens []Token `json:"tokens"`
}

// NewToken is the body that makes a token.
type NewToken struct {
	// Name is for people.
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Mailbox is the one that a token of the role mailbox is for.
	Mailbox  string `json:"mailbox,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Days is how long it lasts, 1 to MaxTokenDays; 0 is for ever.
	Days int `json:"days,omitempty"`
}

// AddedToken is a token that was made, with its text, which is shown this once.
type AddedToken struct {
	Token
	Text string `json:"token"`
}

// keptToken is a token as the store has it.
type keptToken struct {
	Token
	Account store.AccountID `json:"account,omitempty"`
	// Hash is the SHA-256 of the text. It is of 128 random bits, which nobody guesses, so a fast hash will do.
	Hash string `json:"hash"`
}

// keptTokens reads what is kept.
func (a *API) keptTokens(ctx context.Context) ([]keptToken, error) {
	blob, err := a.store.Secret(ctx, tokensName)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	var kept []keptToken
	if err == nil {
		err = json.Unmarshal(blob, &kept)
	}
	return kept, err
}

func (a *API) putTokens(ctx context.Context, kept []keptToken) error {
	blob, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return a.store.PutSecret(context.WithoutCancel(ctx), tokensName, blob)
}

// TokenActor is whoever shows a token, ErrNoToken if it is none. The caller sets Remote.
func (a *API) TokenActor(ctx context.Context, text string) (Actor, error) {
	id, ok := tokenID(text)
	if !ok {
		return Actor{}, ErrNoToken
	}
	kept, err := a.keptTokens(ctx)
	if err != nil {
		return Actor{}, err
	}
	hash := tokenHash(text)
	i := slices.IndexFunc(kept, func(t keptToken) bool { return t.ID == id })
	if i < 0 || subtle.ConstantTimeCompare([]byte(kept[i].Hash), []byte(hash)) != 1 {
		return Actor{}, ErrNoToken
	}
	t := &kept[i]
	if !t.Expires.IsZero() && !a.now().Before(t.Expires) {
		return Actor{}, ErrNoToken
	}
	return Actor{Name: "token " + t.ID + " (" + t.Name + ")", Role: t.Role, ReadOnly: t.ReadOnly, Account: t.Account}, nil
}

// tokenID is the id in a token's text, if it has the form of one.
func tokenID(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) > maxTokenText {
		return "", false
	}
	id, secret, ok := strings.Cut(rest, "_")
	return id, ok && id != "" && secret != ""
}

func tokenHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (a *API) listTokens(r *http.Request) (any, error) {
	kept, err := a.keptTokens(r.Context())
	if err != nil {
		return nil, err
	}
	list := TokenList{Tokens: []Token{}}
	for i := range kept {
		v, err := a.viewToken(r.Context(), &kept[i])
		if err != nil {
			return nil, err
		}
		list.Tokens = append(list.Tokens, v)
	}
	return list, nil
}

// viewToken has the name that the mailbox has now.
func (a *API) viewToken(ctx context.Context, t *keptToken) (Token, error) {
	v := t.Token
	if t.Account == 0 {
		return v, nil
	}
	account, err := a.store.Account(ctx, t.Account)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return v, err
	}
	v.Mailbox = account.Name
	return v, nil
}

func (a *API) addToken(r *http.Request) (any, error) {
	var body NewToken
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	ctx := r.Context()
	t := keptToken{Token: Token{
		ID: strings.ToLower(rand.Text()[:8]), Name: body.Name, Role: body.Role, ReadOnly: body.ReadOnly, Created: a.now().UTC().Truncate(time.Second),
	}}
	if wrong := body.mistakes(); len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	if body.Days > 0 {
		t.Expires = t.Created.AddDate(0, 0, body.Days)
	}
	if body.Mailbox != "" {
		settings, err := a.store.Settings(ctx)
		if err != nil {
			return nil, err
		}
		account, err := a.accountNamed(ctx, body.Mailbox, settings.Domain)
		if err != nil {
			return nil, err
		}
		t.Account, t.Mailbox = account.ID, account.Name
	}
	text := tokenPrefix + t.ID + "_" + rand.Text()
	t.Hash = tokenHash(text)
	a.tokens.Lock()
	defer a.tokens.Unlock()
	kept, err := a.keptTokens(ctx)
	if err != nil {
		return nil, err
	}
	if len(kept) >= MaxTokens {
		return nil, &Error{Code: CodeConflict, Message: fmt.Sprintf("there are %d tokens, which is the most: revoke one first", MaxTokens)}
	}
	if err := a.putTokens(ctx, append(kept, t)); err != nil {
		return nil, err
	}
	return AddedToken{Token: t.Token, Text: text}, a.audit(ctx, "token.add", t.ID, nil, t.Token)
}

func (t *NewToken) mistakes() (wrong []Field) {
	if t.Name == "" || len(t.Name) > MaxTokenName || mailaddr.HasControl(t.Name) || !utf8.ValidString(t.Name) {
		wrong = append(wrong, Field{Field: "name", Message: fmt.Sprintf("has 1 to %d octets and no control characters", MaxTokenName)})
	}
	switch {
	case t.Role == RoleAnyone:
		wrong = append(wrong, Field{Field: "role", Message: "is mailbox, owner or operator"})
	case t.Role == RoleMailbox && t.Mailbox == "":
		wrong = append(wrong, Field{Field: "mailbox", Message: "is needed for the role mailbox"})
	case t.Role != RoleMailbox && t.Mailbox != "":
		wrong = append(wrong, Field{Field: "mailbox", Message: "is for the role mailbox only"})
	}
	if t.Days < 0 || t.Days > MaxTokenDays {
		wrong = append(wrong, Field{Field: "days", Message: fmt.Sprintf("is 0 (for ever) to %d", MaxTokenDays)})
	}
	return wrong
}

func (a *API) revokeToken(r *http.Request) (any, error) {
	ctx, id := r.Context(), r.PathValue("id")
	a.tokens.Lock()
	defer a.tokens.Unlock()
	kept, err := a.keptTokens(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kept, func(t keptToken) bool { return t.ID == id })
	if i < 0 {
		return nil, &Error{Code: CodeNotFound, Message: "there is no such token"}
	}
	gone := kept[i].Token
	if err := a.putTokens(ctx, slices.Delete(kept, i, i+1)); err != nil {
		return nil, err
	}
	return nil, a.audit(ctx, "token.revoke", id, gone, nil)
}
