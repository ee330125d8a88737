//! Results in another version of the specification than their plugin answered in: the plugins of one network share a version,
//! and each is given the result of the one before in it. Pure.
//!
//! ```text
//! 0.1.0 0.2.0           ip4: {ip, gateway, routes}, ip6: …       one address of each family
//! 0.3.0 0.3.1 0.4.0     ips: [{version, address, gateway, interface}], routes: […], interfaces: […]
//! 1.0.0 1.1.0           the same without `version`
//! ```
//!
//! What a version doesn't know stays where it is, but for what its form has no place for: plugins read past it.

use serde_json::{Map, Value};

use super::cidr;

/// The forms that results have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Families,
    ListWithVersion,
    List,
}

impl Form {
    fn of(version: &str) -> Self {
        match version {
            "0.1.0" | "0.2.0" => Form::Families,
            "0.3.0" | "0.3.1" | "0.4.0" => Form::ListWithVersion,
            _ => Form::List,
        }
    }
}

/// Puts a result into the form of a version, one of those that are spoken. Its own form is told by what is in it.
pub(super) fn convert(mut result: Map<String, Value>, version: &str) -> Map<String, Value> {
    let form = Form::of(version);
    let has_families = !result.contains_key("ips") && (result.contains_key("ip4") || result.contains_key("ip6"));
    match form {
        Form::Families if !has_families => to_families(&mut result),
        Form::List | Form::ListWithVersion if has_families => to_list(&mut result),
        _ => {}
    }
    let ips = result.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten();
    for ip in ips.filter_map(Value::as_object_mut) {
        set_family(ip, form);
    }
    result.insert("cniVersion".to_owned(), version.into());
    result
}

fn set_family(ip: &mut Map<String, Value>, form: Form) {
    if form == Form::List {
        ip.remove("version");
    } else if let Some(family) = family(ip.get("address")) {
        ip.insert("version".to_owned(), family.into());
    }
}

/// `4` or `6`; None for what is no CIDR.
fn family(cidr: Option<&Value>) -> Option<&'static str> {
    let address = cidr::address(cidr?.as_str()?)?;
    Some(if address.is_ipv4() { "4" } else { "6" })
}

fn to_list(result: &mut Map<String, Value>) {
    let (mut ips, mut routes) = (Vec::new(), Vec::new());
    for key in ["ip4", "ip6"] {
        let Some(Value::Object(mut family)) = result.remove(key) else { continue };
        if let Some(Value::Array(given)) = family.remove("routes") {
            routes.extend(given);
        }
        if let Some(address) = family.remove("ip") {
            family.insert("address".to_owned(), address);
        }
        ips.push(Value::Object(family));
    }
    result.insert("ips".to_owned(), Value::Array(ips));
    result.insert("routes".to_owned(), Value::Array(routes));
}

/// The first address of each family, with that family's routes.
fn to_families(result: &mut Map<String, Value>) {
    let taken = |value: Option<Value>| match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let (ips, routes) = (taken(result.remove("ips")), taken(result.remove("routes")));
    for key in ["interfaces", "ip4", "ip6"] {
        result.remove(key);
    }
    for (key, wanted) in [("ip4", "4"), ("ip6", "6")] {
        let first = ips.iter().find(|ip| family(ip.get("address")) == Some(wanted));
        let Some(address) = first.and_then(|ip| ip.get("address")) else { continue };
        let mut told = Map::from_iter([("ip".to_owned(), address.clone())]);
        if let Some(gateway) = first.and_then(|ip| ip.get("gateway")) {
            told.insert("gateway".to_owned(), gateway.clone());
        }
        let routes: Vec<_> = routes.iter().filter(|route| family(route.get("dst")) == Some(wanted)).cloned().collect();
        if !routes.is_empty() {
            told.insert("routes".to_owned(), Value::Array(routes));
        }
        result.insert(key.to_owned(), Value::Object(told));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn converted(result: &Value, version: &str) -> Value {
        Value::Object(convert(result.as_object().unwrap().clone(), version))
    }

    fn families() -> Value {
        json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
            "dns": {"nameservers": ["10.1.0.1"]},
        })
    }

    fn list() -> Value {
        json!({
            "cniVersion": "1.0.0",
            "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}],
            "dns": {"nameservers": ["10.1.0.1"]},
        })
    }

    #[test]
    fn families_become_a_list_and_the_list_families_again() {
        assert_eq!(converted(&families(), "1.0.0"), list());
        assert_eq!(converted(&list(), "0.2.0"), families());
    }

    #[test]
    fn addresses_have_their_version_from_0_3_to_0_4_only() {
        let old = converted(&list(), "0.4.0");
        assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
        assert_eq!(old["cniVersion"], "0.4.0");
        assert_eq!(converted(&old, "1.0.0"), list());
        assert_eq!(converted(&families(), "0.3.1")["ips"], old["ips"]);
    }

    #[test]
    fn what_a_version_does_not_know_is_passed_on() {
        let newest = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 9000}], "ips": [], "x": 1});
        let older = converted(&newest, "1.0.0");
        assert_eq!((&older["interfaces"], &older["x"]), (&newest["interfaces"], &newest["x"]));
        let oldest = converted(&newest, "0.1.0");
        assert_eq!(oldest, json!({"cniVersion": "0.1.0", "x": 1}));
    }

    #[test]
    fn only_the_first_address_of_a_family_has_a_place_in_old_results() {
        let several = json!({"ips": [{"address": "fd00::5/64"}, {"address": "fd00::6/64"}, {"address": "nonsense"}]});
        let old = converted(&several, "0.2.0");
        assert_eq!((&old["ip6"], old.get("ip4")), (&json!({"ip": "fd00::5/64"}), None));
    }
}
