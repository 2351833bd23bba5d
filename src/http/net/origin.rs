//! Decides which pages may connect, by the `Origin` header that browsers send.

use url::Url;

/// The origins of WeChat's mini-programs and mini-games on devices. No page of another site can send
/// them, and a login needs a token anyway.
const MINI_PROGRAMS: [&str; 2] = ["https://servicewechat.com", "weapp://wechat-game-runtime"];

/// The allowed origins. A client without an `Origin` is not a page, and is always allowed.
#[derive(Debug, Clone, Default)]
pub struct OriginRule {
    /// The entries of the configuration, in the browsers' spelling.
    allowed: Vec<Allowed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    Any,
    /// One origin in [`canonical`] form.
    Exact(String),
    /// `https://*.example.com:8443` is the scheme `https`, and `.example.com:8443`.
    OneLabel {
        scheme: String,
        suffix: String,
    },
}

impl OriginRule {
    /// Parses origins: exact ones, `https://*.example.com` for one label, or `*` for any.
    ///
    /// # Errors
    ///
    /// A message for each invalid entry, with what to write instead.
    pub fn parse(texts: &[String]) -> Result<Self, Vec<String>> {
        let mut rule = Self::default();
        let mut wrong = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match Allowed::parse(text) {
                Ok(allowed) => rule.allowed.push(allowed),
                Err(message) => wrong.push(format!("allowed_origins[{index}]: {message}")),
            }
        }
        if wrong.is_empty() { Ok(rule) } else { Err(wrong) }
    }

    /// Whether a page of this origin may connect to the hub at this host and port.
    pub(crate) fn admits(&self, origin: &str, host: Option<&str>) -> bool {
        // Clients other than browsers may not send the canonical form.
        let canonical = canonical(origin);
        let origin = canonical.as_deref().unwrap_or(origin);
        host.is_some_and(|host| same_host(origin, host))
            || MINI_PROGRAMS.contains(&origin)
            || self.allowed.iter().any(|allowed| allowed.admits(origin))
    }

    /// The configuration line that adds an origin to the allowed ones; `None` if only `*` would
    /// allow it.
    pub(crate) fn line_for(&self, origin: &str) -> Option<String> {
        let origin = canonical(origin).ok()?;
        let others = self.allowed.iter().map(ToString::to_string);
        let list: Vec<_> = others.chain([origin]).map(|one| format!("\"{one}\"")).collect();
        Some(format!("[server] allowed_origins = [{}]", list.join(", ")))
    }
}

impl Allowed {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some((scheme, host)) = text.split_once("://*") else {
            return canonical(text).map(Self::Exact);
        };
        let is_domain =
            |domain: &&str| !domain.starts_with([':', '.', '/']) && !domain.contains('*');
        let domain = host.strip_prefix('.').filter(|domain| !domain.is_empty()).filter(is_domain);
        let Some(domain) = domain else {
            return Err(format!(
                "{text:?} is not a pattern: a \"*\" stands for the first label alone, as in \
                 \"https://*.example.com\"; \"*\" by itself admits every page"
            ));
        };
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
            return Err(format!(
                "{text:?} is not a pattern: only http and https have patterns; list each origin"
            ));
        }
        // `x` replaces the `*` while the rest is checked.
        let origin = canonical(&format!("{scheme}://x.{domain}")).map_err(|_| {
            format!("{text:?} is not a pattern: write it as \"https://*.example.com\"")
        })?;
        let (scheme, host) = origin.split_once("://x").unwrap_or_default();
        Ok(Self::OneLabel { scheme: scheme.to_owned(), suffix: host.to_owned() })
    }

    fn admits(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == origin,
            Self::OneLabel { scheme, suffix } => {
                let label = origin
                    .strip_prefix(scheme.as_str())
                    .and_then(|rest| rest.strip_prefix("://"))
                    .and_then(|host| host.strip_suffix(suffix.as_str()));
                label.is_some_and(|label| {
                    !label.is_empty() && !label.contains(['.', '/', ':', '@', '[', '*'])
                })
            }
        }
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::OneLabel { scheme, suffix } => write!(f, "{scheme}://*{suffix}"),
        }
    }
}

/// Writes an origin as browsers do: in lower case, without the default port, non-ASCII names in
/// Punycode (WHATWG URL Standard, section 4.7).
///
/// # Errors
///
/// Why no page can have this origin, and what to write instead.
fn canonical(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{text:?} is not an origin: {why}"));
    if text == "null" {
        return Ok(text.to_owned());
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("remove its white space");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("it must begin with a scheme, as in \"https://app.example.com\"");
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme {
        return wrong("it must begin with a scheme, as in \"https://app.example.com\"");
    }
    let authority = rest.trim_end_matches('/');
    if let Some(part) = authority.find(['/', '\\', '?', '#', '@', '*', '"', ',']) {
        let host = &authority[..part];
        return match authority.as_bytes()[part] {
            b'/' | b'\\' | b'?' | b'#' if !host.is_empty() => {
                wrong(&format!("an origin has no path; write \"{scheme}://{host}\""))
            }
            b'@' => wrong("an origin has no user name; write \"https://app.example.com\""),
            _ => wrong("write it as \"https://app.example.com\""),
        };
    }
    match scheme.as_str() {
        "http" | "https" => web(&scheme, authority).ok_or_else(|| {
            let why = "its host or port is not valid; write \"https://app.example.com\"";
            format!("{text:?} is not an origin: {why}")
        }),
        "ws" | "wss" => {
            let page = if scheme == "ws" { "http" } else { "https" };
            let why = "it must be the page's origin, not the hub's address; write";
            wrong(&format!("{why} \"{page}://{}\"", authority.to_ascii_lowercase()))
        }
        // Apps with an embedded browser use their own schemes; the rest is just a name.
        _ if authority.is_ascii() && !authority.ends_with(":0") => {
            Ok(format!("{scheme}://{}", authority.to_ascii_lowercase()))
        }
        _ => wrong("after a custom scheme, expected an ASCII name, as in \"app://localhost\""),
    }
}

/// The origin of a web page.
fn web(scheme: &str, authority: &str) -> Option<String> {
    if authority.is_empty() || authority.ends_with(':') {
        return None;
    }
    let url = Url::parse(&format!("{scheme}://{authority}/")).ok()?;
    // No page is served from port 0.
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return None;
    }
    Some(url.origin().ascii_serialization())
}

/// Whether an origin has this host and port. The scheme is ignored, because a proxy may terminate TLS.
fn same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    bare(authority) == bare(host)
}
