package mailaddr

import "testing"

func TestIsLocalhost(t *testing.T) {
	for name, want := range map[string]bool{
		"localhost": true, "demo.localhost": true, "mail.demo.localhost": true, "": false, "mylocalhost": false, "localhost.example": false, "localhost.": false,
	} {
		if got := IsLocalhost(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
