# Judges by Mail::DMARC of Debian.
#
# usage: dmarc.pl NAMESERVER-PORT < cases
#
# A case is a line: domain of From, SPF scope (mfrom or helo), SPF domain, SPF result, DKIM domain (or -), DKIM result. For each it prints result,
# disposition, and whether DKIM and SPF are aligned.
use strict;
use warnings;

use Mail::DMARC::PurePerl;
use Net::DNS::Resolver;

my $resolver = Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $ARGV[0], recurse => 1, udp_timeout => 5, persistent_udp => 0);
while (my $line = <STDIN>) {
    my ($from, $scope, $spf_domain, $spf, $dkim_domain, $dkim) = split ' ', $line;
    my $dmarc = Mail::DMARC::PurePerl->new();
    $dmarc->set_resolver($resolver);
    $dmarc->source_ip('192.0.2.25');
    $dmarc->header_from($from);
    $dmarc->envelope_to('example.net');
    $dmarc->envelope_from($spf_domain);
    $dmarc->spf([{ scope => $scope, domain => $spf_domain, result => $spf }]);
    $dmarc->dkim($dkim_domain eq '-' ? [] : [{ domain => $dkim_domain, selector => 'r', result => $dkim }]);
    my $result = $dmarc->validate();
    print join(' ', $result->result, $result->disposition || '-', 'dkim=' . ($result->dkim || '-'), 'spf=' . ($result->spf || '-')), "\n";
}
