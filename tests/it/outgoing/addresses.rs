//! The class of each kind of address, and the check of URLs.

use presence_hub::outgoing::{AddressClass, check, class_of, without_secrets};

const FORBIDDEN: &[&str] = &[
    // Unspecified, multicast, broadcast.
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "255.255.255.255",
    // Link-local.
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "fe80::1",
    "febf:ffff::1",
    // Metadata services.
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    // The same in IPv6: mapped, compatible, translated, NAT64, local NAT64, 6to4.
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:100.100.100.200",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::100.100.100.200",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9:fe:a9fe::",
    "64:ff9b:1:0:a9:fea9:fe00:0",
    "2002:a9fe:a9fe::1",
];

const PRIVATE: &[&str] = &[
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "10.0.0.0",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.1",
    "198.19.0.1",
    "240.0.0.1",
    "255.255.255.254",
    "fc00::1",
    "fd00::1",
    "fd00:ec3::254",
    "fdff:ffff::1",
    "fec0::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "2002:7f00:1::1",
];

const PUBLIC: &[&str] = &[
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
    "2002:101:101::1",
];

#[test]
fn addresses_have_their_class() {
    let is = |address: &str, expected: &str| {
        let class = match class_of(address.parse().expect("an address")) {
            AddressClass::Public => "public",
            AddressClass::Private(_) => "private",
            AddressClass::Forbidden(_) => "forbidden",
        };
        assert_eq!(class, expected, "{address}");
    };
    FORBIDDEN.iter().for_each(|address| is(address, "forbidden"));
    PRIVATE.iter().for_each(|address| is(address, "private"));
    PUBLIC.iter().for_each(|address| is(address, "public"));
}

fn checked(url: &str, allow_private: bool) -> Result<(), String> {
    check(&url.parse().expect("a URL"), allow_private)
}

#[test]
fn literal_addresses_in_urls_are_checked_in_every_spelling() {
    let link_local = [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254:8443/",
        "http://169.254.169.254./",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://%31%36%39.254.169.254/",
        "http://１６９.254.169.254/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
    ];
    for url in link_local {
        let refused = checked(url, true).expect_err(url);
        assert!(refused.contains("is a link-local address"), "{url}: {refused}");
    }
    let refused = checked("http://0.0.0.0:7800/", true).expect_err("unspecified");
    let said = "0.0.0.0 is an unspecified address, to which the hub never connects: use the \
                address of your server";
    assert_eq!(refused, said);

    for url in ["http://127.0.0.1:9/", "http://10.1.2.3/", "http://[::1]/", "http://[fd12::1]/"] {
        assert_eq!(checked(url, true), Ok(()), "{url}");
        let refused = checked(url, false).expect_err(url);
        assert!(refused.contains("outgoing.allow_private = true"), "{url}: {refused}");
    }
    for url in ["https://app.example.com/hook?x=1", "http://1.1.1.1/", "http://localhost/"] {
        assert_eq!(checked(url, false), Ok(()), "{url}");
    }
}

#[test]
fn urls_with_another_scheme_or_a_password_are_refused_without_being_printed() {
    for url in ["ftp://app.example.com/canary", "file:///canary", "gopher://127.0.0.1/canary"] {
        let refused = checked(url, true).expect_err(url);
        assert!(refused.starts_with("expected a URL with http or https, not "), "{refused}");
        assert!(!refused.contains("canary"), "{refused}");
    }
    for url in ["https://canary@app.example.com/", "https://:canary@app.example.com/"] {
        let refused = checked(url, true).expect_err(url);
        assert!(refused.contains("a name or a password is not supported"), "{refused}");
        assert!(!refused.contains("canary"), "{refused}");
    }
    let url = "https://user:canary@app.example.com:8443/hook?canary#canary";
    let shown = without_secrets(&url.parse().expect("a URL"));
    assert_eq!(shown, "https://(hidden)@app.example.com:8443/hook?(hidden)#(hidden)");
}
