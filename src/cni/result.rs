//! What plugins answer: results of every version of the specification, and refusals. Pure.
//!
//! A result stays JSON, since it is handed on as `prevResult` with whatever a plugin put in; only addresses are taken out of it.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::args::INTERFACE;
use super::cidr;
use super::conflist::VERSIONS;
use super::convert::convert;

/// A plugin's own account of its failure.
#[derive(Debug, Deserialize)]
pub struct Refusal {
    /// Below 100 as the specification says, from 100 on the plugin's own.
    pub code: u64,
    /// Short.
    #[serde(default)]
    pub msg: String,
    /// Long, or empty.
    #[serde(default)]
    pub details: String,
}

/// Reads the result of an ADD, which comes out in the network's version whichever spoken one the plugin has answered in.
pub fn read(output: &[u8], version: &str) -> Result<Map<String, Value>, String> {
    if output.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_owned());
    }
    let result = match serde_json::from_slice(output) {
        Ok(Value::Object(result)) => result,
        Ok(_) => return Err("is not a JSON object".to_owned()),
        Err(error) => return Err(format!("is not JSON: {error}")),
    };
    match result.get("cniVersion") {
        None | Some(Value::Null) => {}
        Some(Value::String(said)) if said.is_empty() || VERSIONS.contains(&said.as_str()) => {}
        Some(other) => return Err(format!("is of CNI version {other}, which is none of {}", VERSIONS.join(", "))),
    }
    Ok(convert(result, version))
}

/// Reads what a plugin that failed wrote, if it is a refusal in CNI's form.
pub fn refusal(output: &[u8]) -> Option<Refusal> {
    serde_json::from_slice(output).ok()
}

/// The pod's addresses without prefix lengths, each once; at least one. They come in the plugin's order; where the result has
/// none, as before 0.3.0, IPv4 is first.
pub fn addresses(result: &Map<String, Value>) -> Result<Vec<String>, String> {
    let written = if result.contains_key("ips") { of_list(result)? } else { of_families(result)? };
    let mut found: Vec<IpAddr> = Vec::new();
    for cidr in written {
        let address =
            cidr::address(cidr).ok_or_else(|| format!("{cidr:?} is not an address with its prefix length"))?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err("names no address for the pod".to_owned());
    }
    Ok(found.iter().map(IpAddr::to_string).collect())
}

/// `ips`, since 0.3.0. Some plugins also tell of addresses outside the pod: those belong to an interface of another name.
fn of_list(result: &Map<String, Value>) -> Result<Vec<&str>, String> {
    let ips = match result.get("ips") {
        Some(Value::Array(ips)) => ips,
        Some(Value::Null) | None => return Ok(Vec::new()),
        Some(_) => return Err("has \"ips\" that is not a list".to_owned()),
    };
    let mut addresses = Vec::new();
    for (n, ip) in ips.iter().enumerate() {
        let owner = ip.get("interface").and_then(|index| interface_name(result, index));
        if owner.is_none_or(|name| name == INTERFACE) {
            let address = ip.get("address").and_then(Value::as_str);
            addresses.push(address.ok_or_else(|| format!("has no \"address\" in ips[{n}]"))?);
        }
    }
    Ok(addresses)
}

fn interface_name<'a>(result: &'a Map<String, Value>, index: &Value) -> Option<&'a str> {
    let index = usize::try_from(index.as_u64()?).ok()?;
    result.get("interfaces")?.get(index)?.get("name")?.as_str()
}

/// `ip4` and `ip6`, up to 0.2.0.
fn of_families(result: &Map<String, Value>) -> Result<Vec<&str>, String> {
    let mut addresses = Vec::new();
    for family in ["ip4", "ip6"] {
        match result.get(family) {
            None | Some(Value::Null) => {}
            Some(given) => {
                let address = given.get("ip").and_then(Value::as_str);
                addresses.push(address.ok_or_else(|| format!("has no \"ip\" in \"{family}\""))?);
            }
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        addresses(&read(text.as_bytes(), "1.0.0").unwrap())
    }

    #[test]
    fn every_version_gives_its_addresses_in_the_plugins_order() {
        let cases = [
            (r#"{"ip6": {"ip": "fd00::5/64"}, "ip4": {"ip": "10.1.0.5/16"}}"#, vec!["10.1.0.5", "fd00::5"]),
            (r#"{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.5/16"}]}"#, vec!["10.1.0.5"]),
            (
                r#"{"cniVersion": "1.0.0", "ips": [{"address": "fd00::5/64"}, {"address": "10.1.0.6/16"},
                    {"address": "10.1.0.5/16"}, {"address": "fd00::5/64"}]}"#,
                vec!["fd00::5", "10.1.0.6", "10.1.0.5"],
            ),
            (r#"{"cniVersion": "1.1.0", "ips": [{"address": "FD00:0::5/128"}]}"#, vec!["fd00::5"]),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_other_interfaces_are_not_the_pods() {
        let text = r#"{"interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/proc/1/ns/net"}], "ips": [
            {"address": "10.1.0.1/16", "interface": 0}, {"address": "10.1.0.5/16", "interface": 1},
            {"address": "10.1.0.6/16"}, {"address": "10.1.0.7/16", "interface": 9}]}"#;
        assert_eq!(of(text).unwrap(), ["10.1.0.5", "10.1.0.6", "10.1.0.7"]);
    }

    #[test]
    fn a_thousand_addresses_are_read() {
        let ips: Vec<_> = (0..1000).map(|n| format!(r#"{{"address": "10.0.{}.{}/8"}}"#, n / 256, n % 256)).collect();
        assert_eq!(of(&format!(r#"{{"ips": [{}]}}"#, ips.join(","))).unwrap().len(), 1000);
    }

    #[test]
    fn a_result_that_gives_no_address_is_refused_with_the_reason() {
        let cases = [
            ("{}", "names no address"),
            (r#"{"ips": []}"#, "names no address"),
            (r#"{"ips": null}"#, "names no address"),
            (r#"{"ips": 7}"#, "not a list"),
            (r#"{"ips": [7]}"#, "ips[0]"),
            (r#"{"ips": [{"address": "10.1.0.5/33"}]}"#, "10.1.0.5/33"),
            (r#"{"ips": [{"address": "10.1.0.5"}]}"#, "10.1.0.5"),
            (r#"{"ips": [{"address": "ten/8"}]}"#, "ten/8"),
            (r#"{"ip4": {}}"#, "ips[0]"),
            (r#"{"ip4": {"ip": "/"}}"#, "\"/\""),
        ];
        for (text, expected) in cases {
            assert!(of(text).unwrap_err().contains(expected), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for text in ["", " \n", "garbage", "[]", "7", "{}{}"] {
            assert!(read(text.as_bytes(), "1.0.0").is_err(), "{text}");
        }
    }

    #[test]
    fn a_result_comes_out_in_the_networks_version() {
        for said in ["{}", r#"{"cniVersion": ""}"#, r#"{"cniVersion": null}"#, r#"{"cniVersion": "0.4.0"}"#] {
            assert_eq!(read(said.as_bytes(), "0.3.1").unwrap()["cniVersion"], "0.3.1", "{said}");
        }
        for said in [r#"{"cniVersion": "9.9.9"}"#, r#"{"cniVersion": 1}"#] {
            assert!(read(said.as_bytes(), "0.3.1").unwrap_err().contains("is of CNI version"), "{said}");
        }
    }

    #[test]
    fn a_refusal_is_read_whole() {
        let told = refusal(br#"{"cniVersion": "1.0.0", "code": 11, "msg": "later", "details": "the pool is full"}"#);
        let told = told.unwrap();
        assert_eq!((told.code, told.msg.as_str(), told.details.as_str()), (11, "later", "the pool is full"));
        assert!(refusal(b"").is_none());
        assert!(refusal(br#"{"ips": []}"#).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_result_or_a_reason(output: Vec<u8>) {
            let _ = refusal(&output);
            if let Ok(result) = read(&output, "1.0.0") {
                let _ = addresses(&result);
            }
        }

        #[test]
        fn addresses_are_the_same_in_every_version_that_lists_them(
            ips: Vec<IpAddr>,
            said in 2..7usize,
            spoken in 2..7usize,
        ) {
            let ips: Vec<_> = ips.iter().map(|ip| serde_json::json!({"address": format!("{ip}/32")})).collect();
            let result = serde_json::json!({"cniVersion": VERSIONS[said], "ips": ips}).to_string();
            let converted = read(result.as_bytes(), VERSIONS[spoken]).unwrap();
            prop_assert_eq!(addresses(&converted), addresses(&read(result.as_bytes(), VERSIONS[said]).unwrap()));
        }

        #[test]
        fn any_address_text_is_an_address_or_a_reason(text in ".{0,50}", family in "ip4|ip6") {
            let ips = serde_json::json!({"ips": [{"address": text, "interface": 0}]});
            let families = serde_json::json!({family: {"ip": text}});
            for result in [ips, families] {
                if let Ok(found) = addresses(result.as_object().unwrap()) {
                    prop_assert!(found[0].parse::<IpAddr>().is_ok());
                }
            }
        }
    }
}
