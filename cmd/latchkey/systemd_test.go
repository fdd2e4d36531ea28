package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemdUnit lets systemd judge the unit as the instance of a domain.
func TestSystemdUnit(t *testing.T) {
	const tool = "systemd-analyze" //nolint:misspell // the name of a program
	need(t, tool)
	unit, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", "latchkey@.service"))
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/latchkey"
	if !strings.Contains(string(unit), "ExecStart="+installed+" serve ") {
		t.Fatalf("the unit does not start %s", installed)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	instance := filepath.Join(t.TempDir(), "latchkey@example.com.service")
	if err := os.WriteFile(instance, []byte(strings.ReplaceAll(string(unit), installed, self)), 0o644); err != nil {
		t.Fatal(err)
	}
	// Warnings leave the exit status alone, so there must be no output at all.
	if out, err := exec.Command(tool, "verify", "--man=no", instance).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s verify: %v\n%s", tool, err, out)
	}
}

// TestUnitShowsOwnAddresses: guard must be able to ask for them, or it takes no address for a client's own.
func TestUnitShowsOwnAddresses(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", "latchkey@.service"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(unit)) {
		if families, ok := strings.CutPrefix(line, "RestrictAddressFamilies="); ok && !strings.Contains(families, "AF_NETLINK") {
			t.Errorf("the unit forbids netlink: %s", line)
		}
	}
}
