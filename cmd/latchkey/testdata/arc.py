"""Makes and judges chains of ARC seals by dkimpy.

usage: arc.py make DIRECTORY KEY-FILE      seals each N.in of the directory N % 4 times, and changes every tenth of those afterwards: N.eml
       arc.py judge DIRECTORY NAMESERVER-PORT   prints one line of JSON for each N.out: the status, how many sets there are, and why

Keys are at k._domainkey of hop1.example, hop2.example and hop3.example, from a name server at 127.0.0.1.
"""
import glob
import json
import os
import sys

import dkim
import dns.resolver

mode, directory = sys.argv[1], sys.argv[2]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def make(key):
    for path in sorted(glob.glob(os.path.join(directory, "*.in"))):
        number = int(os.path.basename(path)[:-3])
        message = read(path)
        for hop in range(1, number % 4 + 1):
            name = b"mx.hop%d.example" % hop
            status = b"none" if hop == 1 else b"pass"
            message = b"Authentication-Results: " + name + b"; arc=" + status + b"; spf=pass smtp.mailfrom=far.example\r\n" + message
            message = b"Received: from a\r\n\tby " + name + b"; Sat, 28 Nov 2026 12:00:00 +0000\r\n" + message
            fields = dkim.arc_sign(message, b"k", b"hop%d.example" % hop, key, name)
            if len(fields) != 3:
                sys.exit("%s: dkimpy made no set" % path)
            message = b"".join(fields) + message
        if number % 4 and number % 10 == 9:
            message = message + b"changed\r\n"
        with open(path[:-3] + ".eml", "wb") as f:
            f.write(message)


def judge(port):
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], port, 5
    known = {}

    def txt(name, timeout=5):
        name = name.decode() if isinstance(name, bytes) else name
        if name not in known:
            try:
                known[name] = b"".join(resolver.resolve(name, "TXT")[0].strings)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                known[name] = None
        return known[name]

    for path in sorted(glob.glob(os.path.join(directory, "*.out"))):
        status, sets, reason = dkim.arc_verify(read(path), dnsfunc=txt)
        newest = sets[0] if sets else {}
        print(json.dumps({
            "number": int(os.path.basename(path)[:-4]), "status": status.decode() if status else "ended", "sets": len(sets), "reason": reason,
            "message": bool(newest.get("ams-valid")), "results": newest.get("aar-value", b"").decode("utf-8", "replace"),
        }))


if mode == "make":
    make(read(sys.argv[3]))
else:
    judge(int(sys.argv[3]))
