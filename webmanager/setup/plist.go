package setup

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// plistDict is a dictionary that keeps its order.
type plistDict []plistEntry

// plistEntry has a string, an int, a bool, a plistDict or a []any of them as value.
type plistEntry struct {
	key   string
	value any
}

const plistHeader = xml.Header + `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// plistDocument writes a property list as XML.
func plistDocument(d plistDict) []byte {
	b := bytes.NewBufferString(plistHeader)
	writePlist(b, d, "")
	b.WriteString("</plist>\n")
	return b.Bytes()
}

func writePlist(b *bytes.Buffer, value any, indent string) {
	switch v := value.(type) {
	case plistDict:
		fmt.Fprintf(b, "%s<dict>\n", indent)
		for _, e := range v {
			fmt.Fprintf(b, "%s  <key>%s</key>\n", indent, e.key)
			writePlist(b, e.value, indent+"  ")
		}
		fmt.Fprintf(b, "%s</dict>\n", indent)
	case []any:
		fmt.Fprintf(b, "%s<array>\n", indent)
		for _, e := range v {
			writePlist(b, e, indent+"  ")
		}
		fmt.Fprintf(b, "%s</array>\n", indent)
	case bool:
		fmt.Fprintf(b, "%s<%t/>\n", indent, v)
	case int:
		fmt.Fprintf(b, "%s<integer>%d</integer>\n", indent, v)
	case string:
		fmt.Fprintf(b, "%s<string>", indent)
		_ = xml.EscapeText(b, []byte(v)) // a buffer takes everything
		b.WriteString("</string>\n")
	}
}
