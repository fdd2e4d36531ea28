package message

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"

	"latchkey/internal/mailaddr"
)

// MaxFieldAddresses bounds the addresses of one field that [Addresses] reads.
const MaxFieldAddresses = 100

// ErrAddressField: the value of a field is not a list of addresses.
var ErrAddressField = errors.New("message: not an address list")

// Addresses reads the value of an address field such as From (RFC 5322 §3.4): at least one address, at most MaxFieldAddresses.
// Display names and comments are dropped, whatever their character set.
func Addresses(value string) ([]mailaddr.Address, error) {
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{
		CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil },
	}}
	list, err := parser.ParseList(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddressField, err)
	}
	if len(list) == 0 || len(list) > MaxFieldAddresses {
		return nil, fmt.Errorf("%w: %d addresses", ErrAddressField, len(list))
	}
	addrs := make([]mailaddr.Address, len(list))
	for i, a := range list {
		if addrs[i], err = mailaddr.FromUnquoted(a.Address); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAddressField, err)
		}
	}
	return addrs, nil
}
