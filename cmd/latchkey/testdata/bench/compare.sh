#!/bin/bash
# Latchkey beside Postfix + Dovecot in one run, with the same clients: make bench BENCH_TOOLS=DIR. DIR holds
#   mailload/                      the load generator (a Go program)
#   peers/run-postfix-dovecot.sh   start|queue|stop: SMTP 20025, POP3 20110, mailboxes user0..user199@example.com, password $PASS
# The servers take turns, ROUNDS times, and medians are compared. Both keep mail durably before they take it. A message counts when POP3 can
# fetch it: for Postfix when its queue is empty again. Loopback only; root, for the peer. Everything lives in one folder that is removed.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
tools=$(cd "$BENCH_TOOLS" && pwd)
rounds=${ROUNDS:-3}
ROOT=$(mktemp -d "${TMPDIR:-/tmp}/latchkey-bench.XXXXXX")
chmod 755 "$ROOT"
export ROOT PASS=secretsecret USERS=200
peer=$tools/peers/run-postfix-dovecot.sh
pid=

cleanup() {
  if [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null || true; wait "$pid" || true; fi
  "$peer" stop >/dev/null 2>&1 || true
  rm -rf "$ROOT"
}
trap cleanup EXIT

start_latchkey() {
  local data=$ROOT/latchkey cert=$ROOT/cert.pem key=$ROOT/key.pem
  CGO_ENABLED=0 go build -trimpath -o "$ROOT/bin/latchkey" ./cmd/latchkey
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout "$key" -out "$cert" \
    -subj /CN=mail.example.com -addext subjectAltName=DNS:mail.example.com 2>/dev/null
  "$ROOT/bin/latchkey" init --data "$data" --domain example.com >/dev/null 2>"$ROOT/init.log"
  "$ROOT/bin/latchkey" serve --data "$data" --hostname mail.example.com --tls-cert "$cert" --tls-key "$key" \
    --listen-mx 127.0.0.1:21025 --listen-pop3 127.0.0.1:21110 --listen-pop3s 127.0.0.1:21995 --listen-submission= --listen-smtps= \
    --limits-connections-per-address 1000 >"$ROOT/latchkey.log" 2>&1 &
  pid=$!
  local i
  for ((i = 0; i < 500; i++)); do
    if (exec 3<>/dev/tcp/127.0.0.1/21110 && read -r -t 5 _ <&3) 2>/dev/null; then break; fi
    sleep 0.02
  done
  for ((i = 0; i < USERS; i++)); do
    "$ROOT/bin/latchkey" account add "user$i" --data "$data" --password-stdin >>"$ROOT/accounts.log" 2>&1 <<<"$PASS" ||
      { tail -1 "$ROOT/accounts.log" >&2; return 1; }
  done
}

# load SERVER MAILLOAD-ARGUMENTS runs the load generator; its JSON line is left in $ROOT/last.
load() {
  local server=$1 smtp=127.0.0.1:21025 pop=127.0.0.1:21110
  shift
  if [ "$server" = peer ]; then smtp=127.0.0.1:20025 pop=127.0.0.1:20110; fi
  local addr=$smtp
  if [ "$1" = pop3 ]; then addr=$pop; set -- "$@" -pass "$PASS"; fi
  "$ROOT/bin/mailload" "$1" -addr "$addr" "${@:2}" >"$ROOT/out" 2>&1 || { cat "$ROOT/out" >&2; return 1; }
  tail -1 "$ROOT/out" >"$ROOT/last"
}

# field NAME prints a number of the last JSON line.
field() { grep -o "\"$1\":[0-9.]*" "$ROOT/last" | head -1 | cut -d: -f2; }

# note MEASURE SERVER VALUE keeps a figure.
note() { echo "$3" >>"$ROOT/figures/$1.$2"; }

# deliver SERVER CONNECTIONS COUNT SIZE MANIFEST sends, waits until all is fetchable, and leaves the rate in $rate.
deliver() {
  local begin end
  begin=$(date +%s%N)
  load "$1" smtp -conns "$2" -count "$3" -size "$4" -manifest "$5"
  if [ "$1" = peer ]; then while [ "$("$peer" queue)" != 0 ]; do sleep 0.05; done; fi
  end=$(date +%s%N)
  rate=$(awk -v n="$3" -v ns=$((end - begin)) 'BEGIN{printf "%.1f", n * 1e9 / ns}')
}

# clean SERVER MANIFEST fetches and deletes everything; a message lost, doubled or changed ends the comparison.
clean() {
  load "$1" pop3 -mode drain -conns 16 -manifest "$2"
  local what
  for what in lost dups bad; do
    if [ "$(field $what)" != 0 ]; then echo "$1: $what: $(cat "$ROOT/last")" >&2; return 1; fi
  done
}

measure() {
  local server=$1 conns
  for conns in 1 16 64; do
    deliver "$server" "$conns" $((conns == 1 ? 1000 : 4000)) 4096 "$ROOT/manifest"
    note "deliveries-$conns" "$server" "$rate"
    clean "$server" "$ROOT/manifest"
    note "drain-16 ($((conns == 1 ? 1000 : 4000)))" "$server" "$(field msgs_s)"
  done
  for conns in 1 16 64; do
    load "$server" pop3 -mode poll -conns "$conns" -count 4000
    note "polls-$conns" "$server" "$(field sessions_s)"
  done
  deliver "$server" 4 200 1000000 "$ROOT/manifest"
  note "deliveries-4-1MB" "$server" "$rate"
  load "$server" pop3 -mode drain -keep -conns 4 -manifest "$ROOT/manifest"
  note "retr-4-1MB-MB" "$server" "$(field mb_s)"
  clean "$server" "$ROOT/manifest"
}

median() { sort -n "$1" | awk '{v[NR] = $1} END{print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }

mkdir -p "$ROOT/bin" "$ROOT/figures"
(cd "$tools/mailload" && CGO_ENABLED=0 go build -o "$ROOT/bin/mailload" .)
"$peer" start
start_latchkey
for server in latchkey peer; do # every password is proved once before anything is measured, one client at a time
  load "$server" pop3 -mode poll -conns 1 -count "$USERS"
done
for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds"
  measure latchkey
  measure peer
done

echo
echo "medians of $rounds rounds, taking turns; a second"
printf '%-24s %12s %18s %8s\n' measure Latchkey 'Postfix + Dovecot' ratio
for f in "$ROOT"/figures/*.latchkey; do
  name=$(basename "$f" .latchkey)
  ours=$(median "$f") theirs=$(median "$ROOT/figures/$name.peer")
  printf '%-24s %12s %18s %8s\n' "$name" "$ours" "$theirs" "$(awk -v a="$ours" -v b="$theirs" 'BEGIN{printf "%.2f", a / b}')"
done
