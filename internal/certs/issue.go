package certs

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"
)

// issue gets a chain. lacking says why some names but the first are not in it. turn is how many attempts failed before: each begins with another
// kind of challenge, as one door may be out of the CA's reach. The caller holds Account.asking.
func (k *Keeper) issue(ctx context.Context, turn int) (chain [][]byte, lacking, err error) {
	client, done, err := k.o.Account.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	kinds := k.o.Challenges.kinds(turn)
	order, failed, err := k.authorize(ctx, client, k.o.Names, kinds)
	if err != nil {
		return nil, nil, err
	}
	names := k.o.Names
	if len(failed) > 0 {
		if lacking = failed.join(names); failed[names[0]] != nil {
			return nil, nil, lacking
		}
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return failed[name] != nil })
		if k.good(names) {
			return nil, nil, lacking
		}
		if order, failed, err = k.authorize(ctx, client, names, kinds); err == nil && len(failed) > 0 {
			err = failed.join(names)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	chain, err = k.finalize(ctx, client, order, names)
	return chain, lacking, err
}

// good reports whether the present certificate is the CA's, has all of some names, and need not be renewed yet.
func (k *Keeper) good(names []string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.issued && len(missing(k.current.Load().Leaf, names)) == 0 && k.o.Now().Before(k.renewal())
}

// rejectedIdentifier is the type of the problem by which a CA says that it does not issue for a name.
const rejectedIdentifier = "urn:ietf:params:acme:error:rejectedIdentifier"

// failures are names that the CA does not believe to be the operator's, and why.
type failures map[string]error

func (f failures) join(names []string) error {
	var list []error
	for _, name := range names {
		if err := f[name]; err != nil {
			list = append(list, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(list...)
}

// authorize orders a certificate and proves each name. An error is of the order, not of a name.
func (k *Keeper) authorize(ctx context.Context, client *acme.Client, names, kinds []string) (*acme.Order, failures, error) {
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	if failed := refused(err, names); len(failed) > 0 {
		return nil, failed, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("certs: the order: %w", err)
	}
	failed := failures{}
	for _, url := range order.AuthzURLs {
		z, err := client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, nil, fmt.Errorf("certs: the order: %w", err)
		}
		if z.Status == acme.StatusValid {
			continue
		}
		if err := k.o.Challenges.prove(ctx, client, z, kinds); err != nil {
			if _, asked := putOff(err); asked || ctx.Err() != nil {
				return nil, nil, err
			}
			failed[z.Identifier.Value] = err
		}
	}
	if len(failed) > 0 {
		return order, failed, nil
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return nil, nil, fmt.Errorf("certs: the order: %w", err)
	}
	return order, nil, nil
}

// finalize has the certificate of an order issued, for the key that there is.
func (k *Keeper) finalize(ctx context.Context, client *acme.Client, order *acme.Order, names []string) ([][]byte, error) {
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, k.key)
	if err != nil {
		return nil, err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, order, request, true)
	if err != nil {
		return nil, fmt.Errorf("certs: the certificate: %w", err)
	}
	return chain, nil
}

// refused are those of some names because of which a CA does not take an order at all (RFC 8555 §6.7.1). One that has no list of them says it in
// its sentence for people.
func refused(err error, names []string) failures {
	var problem *acme.Error
	if !errors.As(err, &problem) {
		return nil
	}
	failed := failures{}
	for _, p := range problem.Subproblems {
		if p.Identifier != nil {
			failed[p.Identifier.Value] = errors.New(p.Type + ": " + p.Detail)
		}
	}
	if len(failed) > 0 || problem.ProblemType != rejectedIdentifier {
		return failed
	}
	words := strings.FieldsFunc(problem.Detail, func(r rune) bool { return strings.ContainsRune(" \"',;:[]()", r) })
	for _, name := range names {
		if slices.Contains(words, name) {
			failed[name] = problem
		}
	}
	return failed
}
