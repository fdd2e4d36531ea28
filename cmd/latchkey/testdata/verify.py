"""Judges messages by the mail authentication libraries of Debian, in one process.

usage: verify.py DIRECTORY NAMESERVER-PORT ADDRESS HELO ENVELOPE-SENDER

Reads every *.eml of the directory and prints one line of JSON for each: what libopendkim and dkimpy say of each of its DKIM signatures, of which
domain the first is, the domain of its From field, and what pyspf says of the address for the envelope sender in the file *.sender beside it.
The first line is what pyspf says of the address, for the envelope sender, and for a bounce. Keys and records come from a name server at 127.0.0.1.
"""
import ctypes
import ctypes.util
import email
import email.utils
import glob
import json
import os
import sys

import dkim
import dns.resolver
import spf

directory, port, address, helo, sender = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]

resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = ["127.0.0.1"]
resolver.port = port
resolver.lifetime = 5
known = {}


def txt(name):
    """The one TXT record of a name, or None."""
    name = name.rstrip(".")
    if name not in known:
        try:
            answer = resolver.resolve(name, "TXT")
            known[name] = b"".join(answer[0].strings)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            known[name] = None
    return known[name]


def lookup(name, qtype, tcpfallback=True, timeout=5):
    """Answers pyspf as its own lookup does."""
    try:
        answer = resolver.resolve(name, qtype)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    found = []
    for r in answer:
        if qtype in ("A", "AAAA"):
            data = r.address if qtype == "A" else spf.inet_pton(r.address)
        elif qtype == "MX":
            data = (r.preference, r.exchange.to_text(omit_final_dot=True))
        elif qtype == "PTR":
            data = r.target.to_text(omit_final_dot=True)
        else:
            data = r.strings
        found.append(((name, qtype), data))
    return found


spf.DNSLookup = lookup
spf.MAX_LOOKUP_TIME = 20

lib = ctypes.CDLL("libopendkim.so.11")
P = ctypes.c_void_p
for name, result, args in [
    ("dkim_init", P, [P, P]), ("dkim_close", None, [P]), ("dkim_free", ctypes.c_int, [P]),
    ("dkim_verify", P, [P, ctypes.c_char_p, P, ctypes.POINTER(ctypes.c_int)]),
    ("dkim_chunk", ctypes.c_int, [P, ctypes.c_char_p, ctypes.c_size_t]), ("dkim_eom", ctypes.c_int, [P, P]),
    ("dkim_getsiglist", ctypes.c_int, [P, ctypes.POINTER(ctypes.POINTER(P)), ctypes.POINTER(ctypes.c_int)]),
    ("dkim_sig_process", ctypes.c_int, [P, P]), ("dkim_sig_getflags", ctypes.c_uint, [P]), ("dkim_sig_getbh", ctypes.c_int, [P]),
    ("dkim_sig_getselector", ctypes.c_char_p, [P]), ("dkim_sig_getdomain", ctypes.c_char_p, [P]),
    ("dkim_sig_geterror", ctypes.c_int, [P]), ("dkim_sig_geterrorstr", ctypes.c_char_p, [ctypes.c_int]), ("dkim_set_key_lookup", ctypes.c_int, [P, P]),
]:
    function = getattr(lib, name)
    function.restype, function.argtypes = result, args

CONTINUE, NOT_FOUND = 0, 3  # DKIM_CBSTAT_*
PASSED, BH_MATCH = 0x04, 0  # DKIM_SIGFLAG_PASSED, DKIM_SIGBH_MATCH


@ctypes.CFUNCTYPE(ctypes.c_int, P, P, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)
def key_lookup(_, sig, buf, length):
    name = lib.dkim_sig_getselector(sig).decode() + "._domainkey." + lib.dkim_sig_getdomain(sig).decode()
    record = txt(name)
    if record is None or len(record) >= length:
        return NOT_FOUND
    ctypes.memmove(buf, record + b"\0", len(record) + 1)
    return CONTINUE


handle = lib.dkim_init(None, None)
lib.dkim_set_key_lookup(handle, ctypes.cast(key_lookup, P))


def opendkim(message):
    status = ctypes.c_int(0)
    d = lib.dkim_verify(handle, b"1", None, ctypes.byref(status))
    if status.value != 0:
        return ["dkim_verify: %d" % status.value]
    try:
        for piece, length in ((message, len(message)), (None, 0)):
            status = lib.dkim_chunk(d, piece, length)
            if status != 0:
                return ["dkim_chunk: %d" % status]
        lib.dkim_eom(d, None)
        sigs, count = ctypes.POINTER(P)(), ctypes.c_int(0)
        lib.dkim_getsiglist(d, ctypes.byref(sigs), ctypes.byref(count))
        found = []
        for i in range(count.value):
            lib.dkim_sig_process(d, sigs[i])
            passed = lib.dkim_sig_getflags(sigs[i]) & PASSED and lib.dkim_sig_getbh(sigs[i]) == BH_MATCH
            why = lib.dkim_sig_geterrorstr(lib.dkim_sig_geterror(sigs[i]))
            found.append("pass" if passed else "fail: " + why.decode())
        return found
    finally:
        lib.dkim_free(d)


def dkimpy(message):
    found = []
    try:
        verifier = dkim.DKIM(message, timeout=5)
    except dkim.DKIMException as e:
        return ["fail: %s" % e]
    count = sum(1 for name, _ in verifier.headers if name.lower() == b"dkim-signature")
    for i in range(count):
        try:
            passed = verifier.verify(i, dnsfunc=lambda name, timeout=5: txt(name.decode() if isinstance(name, bytes) else name))
            found.append("pass" if passed else "fail")
        except dkim.DKIMException as e:
            found.append("fail: %s" % e)
    return found


def author(message):
    """The domain of the From field."""
    found = email.utils.getaddresses([str(f) for f in email.message_from_bytes(message).get_all("From", [])])
    domains = sorted({a.rpartition("@")[2] for _, a in found})
    return domains[0] if len(domains) == 1 else repr(domains)


def signer(message):
    """The domain of the last signature that was made: it stands first."""
    first = str(email.message_from_bytes(message)["DKIM-Signature"])
    return dkim.util.parse_tag_value(first.encode())[b"d"].decode()


def sent(path):
    """The envelope sender that goes with a message, and what pyspf says of the address for it."""
    with open(path.removesuffix(".eml").removesuffix("-changed") + ".sender") as f:
        envelope = f.read()
    return {"sender": envelope, "spfresult": spf.check2(i=address, s=envelope, h=helo)[0]}


print(json.dumps({"spf": {
    "mail": spf.check2(i=address, s=sender, h=helo)[0], "bounce": spf.check2(i=address, s="", h=helo)[0],
    "stranger": spf.check2(i="203.0.113.9", s=sender, h=helo)[0],
}}))
for path in sorted(glob.glob(os.path.join(directory, "*.eml"))):
    with open(path, "rb") as f:
        message = f.read()
    print(json.dumps({"name": os.path.basename(path), "opendkim": opendkim(message), "dkimpy": dkimpy(message),
                      "from": author(message), "signer": signer(message), **sent(path)}))
