//go:build interop

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// thunderbird is a running Thunderbird with one account, on a screen of its own.
type thunderbird struct {
	*marionette
	profile, display string
}

// thunderbirdAccount is what its preferences say of the account.
type thunderbirdAccount struct {
	address, password     string
	popPort, smtpPort     string
	popSocket, smtpSocket int // 0 in the clear, 2 STARTTLS, 3 TLS
}

// thunderbirdTime bounds a run of Thunderbird, from its start to its end.
const thunderbirdTime = 90 * time.Second

// startThunderbird makes a profile and starts Thunderbird with it. It is killed, with its screen, when the test ends.
func startThunderbird(t *testing.T, a thunderbirdAccount) *thunderbird {
	t.Helper()
	tb := startThunderbirdAs(t, a.preferences())
	tb.script(`const info = Components.Constructor("@mozilla.org/login-manager/loginInfo;1", Ci.nsILoginInfo, "init");
for (const origin of ["mailbox://127.0.0.1", "smtp://127.0.0.1"])
  await Services.logins.addLoginAsync(new info(origin, null, origin, args[0], args[1], "", ""));`, a.address, a.password)
	return tb
}

// startThunderbirdAs makes a profile with preferences beside those of all, and starts Thunderbird with it.
func startThunderbirdAs(t *testing.T, preferences string) *thunderbird {
	t.Helper()
	need(t, "thunderbird", "Xvfb", "import")
	ctx, cancel := context.WithTimeout(t.Context(), thunderbirdTime)
	t.Cleanup(cancel)
	home, port := t.TempDir(), freePort(t)
	tb := &thunderbird{profile: filepath.Join(home, "profile"), display: startScreen(ctx, t)}
	if err := os.Mkdir(tb.profile, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tb.profile, "user.js"), fmt.Appendf(nil, "user_pref(\"marionette.port\", %d);\n%s%s", port, quietPreferences, preferences), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + home, "DISPLAY=" + tb.display, "XDG_RUNTIME_DIR=" + home, "MOZ_CRASHREPORTER_DISABLE=1", "LC_ALL=C.UTF-8"}
	said := startGroup(ctx, t, env, nil, "thunderbird", "--profile", tb.profile, "--marionette", "--remote-allow-system-access", "--no-remote")
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(said)
			t.Logf("thunderbird said\n%s", text)
		}
	})
	deadline, _ := ctx.Deadline()
	tb.marionette = newMarionette(t, port, deadline)
	return tb
}

// startScreen starts an X server and returns its display.
func startScreen(ctx context.Context, t *testing.T) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // read once
	startGroup(ctx, t, nil, w, "Xvfb", "-displayfd", "3", "-screen", "0", "1280x900x24", "-nolisten", "tcp")
	_ = w.Close() // the other process has it
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("the screen: %v", err)
	}
	return ":" + strings.TrimSpace(number)
}

// startGroup starts a program in a process group of its own, which is killed when the test or its time ends, and returns the file with what
// it says. Its third descriptor is fd3, if there is one.
func startGroup(ctx context.Context, t *testing.T, env []string, fd3 *os.File, args ...string) (said string) {
	t.Helper()
	said = filepath.Join(t.TempDir(), "said")
	out, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if fd3 != nil {
		cmd.ExtraFiles = []*os.File{fd3}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Cancel() // it may have ended
		_ = cmd.Wait()   // by the signal
		_ = out.Close()
	})
	return said
}

// accountPreferences are those of an account.
const accountPreferences = `
user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.accountmanager.localfoldersserver", "server2");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.identity.id1.fullName", "Bert");
user_pref("mail.identity.id1.useremail", "{address}");
user_pref("mail.identity.id1.smtpServer", "smtp1");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.identity.id1.compose_html", false);
user_pref("mail.server.server1.type", "pop3");
user_pref("mail.server.server1.name", "{address}");
user_pref("mail.server.server1.hostname", "127.0.0.1");
user_pref("mail.server.server1.port", {pop port});
user_pref("mail.server.server1.userName", "{address}");
user_pref("mail.server.server1.socketType", {pop socket});
user_pref("mail.server.server1.authMethod", 3);
user_pref("mail.server.server1.check_new_mail", false);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server1.leave_on_server", false);
user_pref("mail.server.server2.type", "none");
user_pref("mail.server.server2.name", "Local Folders");
user_pref("mail.server.server2.hostname", "Local Folders");
user_pref("mail.server.server2.userName", "nobody");
user_pref("mail.smtpservers", "smtp1");
user_pref("mail.smtp.defaultserver", "smtp1");
user_pref("mail.smtpserver.smtp1.hostname", "127.0.0.1");
user_pref("mail.smtpserver.smtp1.port", {smtp port});
user_pref("mail.smtpserver.smtp1.username", "{address}");
user_pref("mail.smtpserver.smtp1.try_ssl", {smtp socket});
user_pref("mail.smtpserver.smtp1.authMethod", 3);
`

// quietPreferences are those without which Thunderbird asks or tells somebody something: what is not on this machine is behind a proxy that is not
// there.
const quietPreferences = `
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.rights.version", 1);
user_pref("mail.spam.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("mailnews.start_page_override.mstone", "ignore");
user_pref("mail.inappnotifications.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.policy.dataSubmissionPolicyBypassNotification", true);
user_pref("app.update.disabledForTesting", true);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("extensions.update.enabled", false);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
user_pref("network.proxy.no_proxies_on", "127.0.0.1");
`

func (a thunderbirdAccount) preferences() string {
	return strings.NewReplacer(
		"{address}", a.address, "{pop port}", a.popPort, "{pop socket}", strconv.Itoa(a.popSocket),
		"{smtp port}", a.smtpPort, "{smtp socket}", strconv.Itoa(a.smtpSocket),
	).Replace(accountPreferences)
}

// trust makes an exception for a certificate at a port, as the owner would when asked.
func (tb *thunderbird) trust(certFile string, ports ...string) {
	tb.t.Helper()
	text, err := os.ReadFile(certFile)
	if err != nil {
		tb.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	for _, port := range ports {
		tb.script(`const certificate = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).constructX509FromBase64(args[0]);
Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService)
  .rememberValidityOverride("127.0.0.1", Number(args[1]), {}, certificate, false);`, base64.StdEncoding.EncodeToString(block.Bytes), port)
	}
}

// getMail has it get the account's new messages, and returns the file of its inbox, an mbox.
func (tb *thunderbird) getMail() (inbox string) {
	tb.t.Helper()
	status, path, _ := strings.Cut(tb.script(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.accounts.map(a => a.incomingServer).find(s => s.type == "pop3");
const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
const status = await new Promise(done => MailServices.pop3.GetNewMail(null, {
  OnStartRunningUrl() {}, OnStopRunningUrl(url, status) { done(status); } }, inbox, server));
await new Promise(done => { const w = Services.wm.getMostRecentWindow("mail:3pane"); w.setTimeout(done, 0); });
return status.toString(16) + " " + inbox.filePath.path;`), " ")
	if status != "0" {
		tb.t.Fatalf("getting mail ends with %s", status)
	}
	return path
}

// send opens the window for a new message and presses its button.
func (tb *thunderbird) send(to, subject, body string) {
	tb.t.Helper()
	status := tb.script(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
[fields.to, fields.subject, fields.body] = args;
const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
params.composeFields = fields;
params.format = Ci.nsIMsgCompFormat.PlainText;
params.identity = MailServices.accounts.defaultAccount.defaultIdentity;
const opened = new Promise(done => Services.ww.registerNotification(function seen(win, topic) {
  if (topic != "domwindowopened") return;
  Services.ww.unregisterNotification(seen);
  win.addEventListener("compose-editor-ready", () => done(win), { once: true });
}));
MailServices.compose.OpenComposeWindowWithParams(null, params);
const win = await opened;
const closed = new Promise(done => win.addEventListener("unload", done, { once: true }));
const status = await new Promise(done => {
  win.gMsgCompose.addMsgSendListener({
    onStartSending() {}, onProgress() {}, onSendProgress() {}, onStatus() {}, onTransportSecurityError(id, status) { done(status); },
    onStopSending(id, status) { done(status); }, onSendNotPerformed(id, status) { done(status); }, onGetDraftFolderURI() {},
  });
  win.goDoCommand("cmd_sendNow");
});
if (!status) await closed;
return status.toString(16);`, to, subject, body)
	if status != "0" {
		tb.t.Fatalf("sending ends with %s", status)
	}
}

// show opens the inbox and its first message.
func (tb *thunderbird) show() {
	tb.t.Helper()
	tb.script(`const pane = Services.wm.getMostRecentWindow("mail:3pane").gTabmail.currentAbout3Pane;
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.accounts.map(a => a.incomingServer).find(s => s.type == "pop3");
pane.displayFolder(server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox).URI);
while (!pane.gDBView || !pane.gDBView.rowCount) await new Promise(done => pane.setTimeout(done, 20));
const message = pane.messageBrowser.contentWindow;
const loaded = new Promise(done => message.addEventListener("MsgLoaded", done, { once: true }));
pane.threadTree.selectedIndex = 0;
await loaded;
await new Promise(done => pane.requestAnimationFrame(() => pane.requestAnimationFrame(done)));`)
}

// screenshot writes what is on the screen into a file of the test's, or of LATCHKEY_SCREENSHOTS.
func (tb *thunderbird) screenshot(name string) {
	tb.t.Helper()
	dir := os.Getenv("LATCHKEY_SCREENSHOTS")
	if dir == "" {
		dir = tb.t.TempDir()
	}
	path := filepath.Join(dir, name+".png")
	run(tb.t, "", "import", "-display", tb.display, "-window", "root", path)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		tb.t.Errorf("no screenshot: %v", err)
	}
}

// TestInteropThunderbird: Thunderbird fetches by POP3 under TLS every octet that is there, deletes it from the server, and sends by STARTTLS
// and the same password.
func TestInteropThunderbird(t *testing.T) {
	s := interopServer(t)
	for n := range 3 {
		s.send("anna", annasPassword, []string{"bert@example.com"},
			fmt.Sprintf("Subject: for Thunderbird, %d\r\nFrom: anna@example.com\r\nTo: bert@example.com\r\n\r\n%s", n, nastyBody))
	}
	want := s.bertsMail(t)
	popPort, smtpPort := s.port(implicit, "pop3", "pop3s"), s.port(startTLS, "submission", "smtps")
	tb := startThunderbird(t, thunderbirdAccount{
		address: "bert@example.com", password: bertsPassword, popPort: popPort, popSocket: 3, smtpPort: smtpPort, smtpSocket: 2,
	})
	tb.trust(s.config.TLS.Cert, popPort, smtpPort)
	inMbox.compare(t, fromMbox(t, tb.getMail()), want)
	if left := s.fetch("bert", bertsPassword); len(left) != 0 {
		t.Errorf("%d messages left, want none", len(left))
	}
	tb.show()
	tb.screenshot("thunderbird")
	tb.send("anna@example.com", "from Thunderbird", "body\n.dot\n..\n")
	messages := s.fetch("anna", annasPassword)
	if len(messages) != 1 {
		t.Fatalf("%d messages have come, want 1", len(messages))
	}
	for _, part := range []string{
		"\nSubject: from Thunderbird\n", "\n\nbody\n.dot\n..\n", "with ESMTPSA", "\nFrom: Bert <bert@example.com>\n", "\nUser-Agent: Mozilla Thunderbird\n",
	} {
		if !strings.Contains(messages[0], part) {
			t.Errorf("no %q in\n%s", part, messages[0])
		}
	}
}
