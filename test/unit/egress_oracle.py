#!/usr/bin/env python3
#
# egress_oracle.py - asks the C what it makes of thousands of addresses, and
#                    compares with what the registries say
#
#     python3 test/unit/egress_oracle.py PROGRAM
#
# PROGRAM reads lines "trusted networks TAB scheme TAB own TAB address" and
# answers each with allowed, not_public, own or needs_https.
#
# The tables are those of IANA (IPv4 and IPv6 special-purpose address
# registries, multicast and global unicast assignments), entered here from the
# registries and not from the C; Python's own ipaddress is a second opinion.

import ipaddress
import random
import subprocess
import sys
from ipaddress import ip_address, ip_network

# block, globally reachable as the registry has it, name
IPV4_REGISTRY = [
    ("0.0.0.0/8", False, "this network"),
    ("0.0.0.0/32", False, "this host on this network"),
    ("10.0.0.0/8", False, "private use"),
    ("100.64.0.0/10", False, "shared address space"),
    ("127.0.0.0/8", False, "loopback"),
    ("169.254.0.0/16", False, "link local"),
    ("172.16.0.0/12", False, "private use"),
    ("192.0.0.0/24", False, "IETF protocol assignments"),
    ("192.0.0.0/29", False, "IPv4 service continuity prefix"),
    ("192.0.0.8/32", False, "IPv4 dummy address"),
    ("192.0.0.9/32", True, "port control protocol anycast"),
    ("192.0.0.10/32", True, "TURN anycast"),
    ("192.0.0.170/32", False, "NAT64/DNS64 discovery"),
    ("192.0.0.171/32", False, "NAT64/DNS64 discovery"),
    ("192.0.2.0/24", False, "documentation"),
    ("192.31.196.0/24", True, "AS112-v4"),
    ("192.52.193.0/24", True, "AMT"),
    ("192.88.99.0/24", False, "deprecated 6to4 relay anycast"),
    ("192.168.0.0/16", False, "private use"),
    ("192.175.48.0/24", True, "direct delegation AS112 service"),
    ("198.18.0.0/15", False, "benchmarking"),
    ("198.51.100.0/24", False, "documentation"),
    ("203.0.113.0/24", False, "documentation"),
    ("224.0.0.0/4", False, "multicast"),
    ("240.0.0.0/4", False, "reserved"),
    ("255.255.255.255/32", False, "limited broadcast"),
]
IPV6_REGISTRY = [
    ("::1/128", False, "loopback"),
    ("::/128", False, "unspecified"),
    ("::ffff:0:0/96", False, "IPv4-mapped"),
    ("64:ff9b::/96", True, "IPv4-IPv6 translation"),
    ("64:ff9b:1::/48", False, "IPv4-IPv6 translation, local use"),
    ("100::/64", False, "discard only"),
    ("100:0:0:1::/64", False, "dummy prefix"),
    ("2001::/23", False, "IETF protocol assignments"),
    ("2001::/32", False, "Teredo"),
    ("2001:1::1/128", True, "port control protocol anycast"),
    ("2001:1::2/128", True, "TURN anycast"),
    ("2001:1::3/128", True, "DNS-SD anycast"),
    ("2001:2::/48", False, "benchmarking"),
    ("2001:3::/32", True, "AMT"),
    ("2001:4:112::/48", True, "AS112-v6"),
    ("2001:10::/28", False, "deprecated ORCHID"),
    ("2001:20::/28", True, "ORCHIDv2"),
    ("2001:30::/28", True, "drone remote identification"),
    ("2001:db8::/32", False, "documentation"),
    ("2002::/16", False, "6to4"),
    ("2620:4f:8000::/48", True, "direct delegation AS112 service"),
    ("3fff::/20", False, "documentation"),
    ("5f00::/16", False, "segment routing SIDs"),
    ("fc00::/7", False, "unique local"),
    ("fe80::/10", False, "link local"),
    ("fec0::/10", False, "deprecated site local"),
    ("ff00::/8", False, "multicast"),
]
# What is stricter here than in the registries, and why.
STRICTER = [
    ("168.63.129.16/32", "the platform's own services on Azure, at an address that looks public"),
    ("192.0.0.0/24", "anycast of protocols, where no webhook lives"),
    ("2001::/23", "the same"),
    ("::/3", "outside 2000::/3 nothing is global unicast; translation (64:ff9b::/96) leads to any IPv4"),
    ("4000::/2", "the same"),
    ("8000::/1", "the same"),
]

# Each written as a human would write an attack, or a customer.
WRITTEN = """
0.0.0.0 0.0.0.1 0.1.2.3 1.0.0.1 1.1.1.1 8.8.8.8 9.9.9.9 10.0.0.1 10.1.2.3 10.255.255.254 17.0.0.1 52.94.236.248 93.184.216.34
100.63.255.255 100.64.0.1 100.100.100.200 100.127.255.254 100.128.0.0 104.16.0.1 126.255.255.255 127.0.0.1 127.0.0.2 127.1.1.1
127.255.255.254 128.0.0.0 140.82.112.3 151.101.1.69 168.63.129.15 168.63.129.16 168.63.129.17 169.253.255.255 169.254.0.0
169.254.169.123 169.254.169.253 169.254.169.254 169.254.170.2 169.254.255.255 169.255.0.0 172.15.255.255 172.16.0.1 172.17.0.1
172.20.10.1 172.31.255.255 172.32.0.0 185.199.108.153 191.255.255.255 192.0.0.1 192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.171
192.0.0.192 192.0.1.1 192.0.2.1 192.0.3.1 192.31.196.1 192.52.193.1 192.88.98.255 192.88.99.1 192.88.100.1 192.167.255.255 192.168.0.1
192.168.1.1 192.168.255.255 192.169.0.1 192.175.48.1 198.17.255.255 198.18.0.1 198.19.255.255 198.20.0.1 198.51.99.255 198.51.100.1
198.51.101.1 203.0.112.255 203.0.113.1 203.0.114.1 208.67.222.222 223.255.255.255 224.0.0.1 224.0.0.251 239.255.255.250 240.0.0.1
255.255.255.254 255.255.255.255
:: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::169.254.169.254 ::ffff:0.0.0.0 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:a9fe:a9fe
::ffff:0:127.0.0.1 ::ffff:0:0 ::fffe:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::8.8.8.8 64:ff9a:ffff::1
64:ff9b:0:1:: 64:ff9b:1::127.0.0.1 64:ff9b:1:ffff::1 64:ff9b:2::1 100::1 100:0:0:1::1 100:0:0:2::1 200::1 400::1 1000::1 1fff:ffff::1 2000:: 2000::1
2001:: 2001::1 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:1::1 2001:1::2 2001:1::3 2001:2::1 2001:3::1 2001:4:112::1
2001:10::1 2001:20::1 2001:30::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:200:: 2001:200::1 2001:4860:4860::8888 2001:67c:4e8::1
2001:db7:ffff:ffff::1 2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: 2002:: 2002:7f00:1:: 2002:a00:1::1
2002:a9fe:a9fe:: 2002:808:808::1 2002:ffff:ffff:ffff:: 2003:: 2400:cb00::1 2600:1f00::1 2606:4700:4700::1111 2620:4f:8000::1 2620:fe::fe
2800::1 2a00:1450:4001::1 2a00::5efe:127.0.0.1 2a00::5efe:8.8.8.8 2c0f::1 3ffe::1 3ffe:ffff::1 3fff:: 3fff::1 3fff:fff:ffff::1 3fff:1000::1
3fff:ffff:ffff::1 4000::1 5f00::1 5f01::1 6000::1 8000::1 a000::1 c000::1 e000::1 f000::1 fbff::1 fc00::1 fd00::1 fd00:ec2::254
fd12:3456:789a::1 fdff:ffff::1 fe00::1 fe7f::1 fe80::1 fe80::a9fe:a9fe febf::1 fec0::1 feff::1 ff00::1 ff02::1 ff02::fb ff05::2 ff0e::1
ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
""".split()


def is_public(address):
    """Global unicast by the registries, the most specific block counting, less what is stricter here."""
    if any(address in ip_network(block) for block, _ in STRICTER if ip_network(block).version == address.version):
        return False
    registry = IPV4_REGISTRY if address.version == 4 else IPV6_REGISTRY
    matches = [(ip_network(block).prefixlen, reachable) for block, reachable, _ in registry if address in ip_network(block)]
    return max(matches)[1] if matches else True


def is_trusted(trusted, address):
    """Mapped addresses are IPv4, wherever they stand."""

    def plain(network):
        network = ip_network(network, strict=False)
        if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
            return ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        return network

    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in plain(network) for network in trusted if plain(network).version == address.version)


def verdict(trusted, scheme, own, address):
    if is_trusted(trusted, address):
        return "allowed"
    if not is_public(address):
        return "not_public"
    if own:
        return "own"
    return "allowed" if scheme == "https" else "needs_https"


def edges():
    """The ends of each block, and what lies just outside."""
    blocks = [b for b, *_ in IPV4_REGISTRY + IPV6_REGISTRY + STRICTER] + ["2000::/3"]
    for network in map(ip_network, blocks):
        first, last = int(network[0]), int(network[-1])
        most = 2**network.max_prefixlen - 1
        for n in (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1):
            if 0 <= n <= most:
                yield ipaddress.IPv4Address(n) if network.version == 4 else ipaddress.IPv6Address(n)


def embedded():
    """IPv4 addresses, good and bad, in every form that IPv6 has for them."""
    for text in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "168.63.129.16", "8.8.8.8", "255.255.255.255"):
        n = int(ip_address(text))
        for form in (
            n,  # compatible
            0xFFFF << 32 | n,  # mapped
            0xFFFF << 48 | n,  # translated
            0x64FF9B << 96 | n,  # NAT64
            0x64FF9B0001 << 80 | n,  # NAT64, local
            0x2002 << 112 | n << 80,  # 6to4
            0x20010000 << 96 | n << 64 | (n ^ 0xFFFFFFFF),  # Teredo
            0xFE80 << 112 | 0x5EFE << 32 | n,  # ISATAP
            0xFD00 << 112 | n,
        ):
            yield ipaddress.IPv6Address(form)


def at_random(n, generator):
    """Of which IPv6 is mostly near the blocks that have something to say."""
    for _ in range(n):
        yield ipaddress.IPv4Address(generator.getrandbits(32))
        network = ip_network(generator.choice(IPV6_REGISTRY)[0])
        mask = (1 << generator.randrange(1, 129)) - 1
        yield ipaddress.IPv6Address(int(network[0]) ^ (generator.getrandbits(128) & mask))
        yield ipaddress.IPv6Address(0x2 << 124 | generator.getrandbits(124))


def questions():
    generator = random.Random(1)
    addresses = [ip_address(text) for text in WRITTEN] + list(edges()) + list(embedded())
    for address in addresses:
        yield [], "https", False, address
        yield [], "http", False, address
        yield [], "https", True, address
    for address in at_random(3000, generator):
        yield [], "https", False, address
    # networks around addresses, and others
    for address in addresses * 3 + list(at_random(1000, generator)):
        trusted = []
        for _ in range(generator.randrange(4)):
            other = generator.choice([address, generator.choice(addresses)])
            trusted.append(f"{other}/{generator.randrange(other.max_prefixlen + 1)}")
        yield trusted, generator.choice(["http", "https"]), generator.random() < 0.1, address


def main():
    asked = list(questions())
    lines = "".join("%s\t%s\t%d\t%s\n" % (", ".join(t), scheme, own, address) for t, scheme, own, address in asked)
    answers = subprocess.run(sys.argv[1:], input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    wrong = [(question, answer) for question, answer in zip(asked, answers) if verdict(*question) != answer]
    # the second opinion errs on one side alone: what it takes for private is private
    leaks = {q[3] for q, a in zip(asked, answers) if a == "allowed" and not q[0] and not q[3].is_global and is_plainly_private(q[3])}
    addresses = {q[3] for q in asked}
    count = 0

    def check(ok, what):
        nonlocal count
        count += 1
        print("ok" if ok else "not ok", count, "-", what)
        return ok

    good = check(len(answers) == len(asked), "every question has its answer")
    named = {ip_address(text) for text in WRITTEN} | set(edges()) | set(embedded())
    good &= check(
        len(named) >= 300 and len(addresses) >= 10000,
        f"{len(asked)} questions about {len(addresses)} addresses, {len(named)} of them not at random",
    )
    good &= check(not wrong, "all answers are those of the registries")
    for question, answer in wrong[:20]:
        print("# %s, trusted (%s), %s, own %s: %s instead of %s" % (question[3], ", ".join(question[0]), question[1], question[2], answer, verdict(*question)))
    good &= check(not leaks, "nothing is public that Python takes for private")
    for address in list(leaks)[:20]:
        print("#", address)
    for kind in ("allowed", "not_public", "own", "needs_https"):
        good &= check(answers.count(kind) > 200, f"{answers.count(kind)} are {kind}")
    print(f"1..{count}")
    return 0 if good else 1


def is_plainly_private(address):
    """Of what the registry calls globally reachable, Python 3.11 takes some for private."""
    return not any(reachable and address in ip_network(block) for block, reachable, _ in IPV4_REGISTRY + IPV6_REGISTRY if ip_network(block).version == address.version)


sys.exit(main())
