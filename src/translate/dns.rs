//! A pod's resolv.conf from its DNS configuration. Pure.

use crate::cri;
use crate::error::{Error, Result};

/// The file's exact content; a configuration that names nothing asks for an empty file.
pub fn resolv_conf(config: &cri::DnsConfig) -> Result<String> {
    let cri::DnsConfig { servers, searches, options } = config;
    let mut text = String::new();
    for server in words("servers", servers)? {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, at, list) in [("search", "searches", searches), ("options", "options", options)] {
        if !list.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words(at, list)?.join(" ")));
        }
    }
    Ok(text)
}

/// Each item is one word of the file.
fn words<'a>(at: &str, list: &'a [String]) -> Result<&'a [String]> {
    match list.iter().position(|word| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control())) {
        Some(index) => Err(Error::invalid(format!("config.dns_config.{at}[{index}]"), "is not one word")),
        None => Ok(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &[&str], searches: &[&str], options: &[&str]) -> cri::DnsConfig {
        let owned = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        cri::DnsConfig { servers: owned(servers), searches: owned(searches), options: owned(options) }
    }

    #[test]
    fn all_servers_stand_in_their_order() {
        let text = resolv_conf(&config(&["10.0.0.4", "fd00::1", "8.8.8.8", "9.9.9.9"], &["a.b", "c"], &["ndots:5"]));
        let wanted = "nameserver 10.0.0.4\nnameserver fd00::1\nnameserver 8.8.8.8\nnameserver 9.9.9.9\nsearch a.b c\noptions ndots:5\n";
        assert_eq!(text.unwrap(), wanted);
        assert_eq!(resolv_conf(&config(&[], &[], &[])).unwrap(), "");
    }

    #[test]
    fn a_line_cannot_be_smuggled_in() {
        let error = resolv_conf(&config(&["1.1.1.1"], &["a\nnameserver 6.6.6.6"], &[])).unwrap_err();
        assert!(error.to_string().starts_with("config.dns_config.searches[0]"));
    }
}
