package setup

import (
	"bytes"
	"fmt"
	"net/http"

	"rsc.io/qr"
)

// quietZone is the white margin of a QR code, in modules (ISO/IEC 18004 §5.3.8).
const quietZone = 4

// qrCode draws the URL of the profile for an address, to be photographed with a telephone.
func (h *Handler) qrCode(w http.ResponseWriter, r *http.Request) {
	s, ok := h.named(w, r)
	if !ok {
		return
	}
	picture, err := QRCode(ProfileURL(h.options.Base, s.Address))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	write(w, "image/svg+xml", picture)
}

// QRCode draws a text as an SVG picture, black on white in any colour scheme. It fails for one of more than some two thousand octets.
func QRCode(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("setup: QR code: %w", err)
	}
	size := code.Size + 2*quietZone
	b := new(bytes.Buffer)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, size, size)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff"/><path fill="#000" d="`, size, size)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			run := 0
			for x+run < code.Size && code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(b, "M%d %dh%dv1h-%dz", x+quietZone, y+quietZone, run, run)
				x += run
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes(), nil
}
