// A form with the id "passkey" makes a passkey, if its data-options say with what, or else shows one, with what data-begin answers. It is hidden
// until this runs in a browser that knows passkeys. All else on these pages needs no script.
'use strict';
{
  const form = document.getElementById('passkey');
  const octets = text => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
  const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  const known = list => (list ?? []).map(c => ({ ...c, id: octets(c.id) }));
  const texts = (response, names) => Object.fromEntries(names.filter(n => response[n]).map(n => [n, text(response[n])]));

  const make = async o => {
    const made = await navigator.credentials.create({ publicKey: {
      ...o, challenge: octets(o.challenge), user: { ...o.user, id: octets(o.user.id) }, excludeCredentials: known(o.excludeCredentials),
    } });
    return [made, { ...texts(made.response, ['clientDataJSON', 'attestationObject']), transports: made.response.getTransports?.() ?? [] }];
  };
  const show = async o => {
    const shown = await navigator.credentials.get({ publicKey: { ...o, challenge: octets(o.challenge), allowCredentials: known(o.allowCredentials) } });
    return [shown, texts(shown.response, ['clientDataJSON', 'authenticatorData', 'signature', 'userHandle'])];
  };

  const run = async () => {
    let answer;
    if (form.dataset.options) {
      answer = await make(JSON.parse(form.dataset.options));
    } else {
      const asked = await fetch(form.dataset.begin, { method: 'POST' });
      if (!asked.ok) throw new Error(asked.status);
      const { ticket, options } = await asked.json();
      form.elements.ticket.value = ticket;
      answer = await show(options);
    }
    const [{ id, rawId, type }, response] = answer;
    form.elements.response.value = JSON.stringify({ id, rawId: text(rawId), type, response });
    form.submit();
  };

  if (window.PublicKeyCredential && navigator.credentials) {
    const said = form.querySelector('[role=alert]');
    let busy = false;
    form.hidden = false;
    form.addEventListener('submit', async e => {
      e.preventDefault();
      if (busy) return;
      busy = true;
      said.hidden = true;
      try {
        await run();
      } catch (problem) {
        said.textContent = problem.name === 'InvalidStateError' ? form.dataset.exists : form.dataset.failed;
        said.hidden = false;
      }
      busy = false;
    });
  } else {
    document.getElementById('passkey-none').hidden = false;
  }
}
