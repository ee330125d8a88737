//! What one plugin call is given: environment and request (stdin). Pure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cidr::PodCidrs;
use super::conflist::{NetworkList, Plugin, is_id};
use super::error::Error;
use super::{Attachment, Dns, Pod, PortMapping, quantity};

/// The pod's interface.
pub(super) const INTERFACE: &str = "eth0";
/// The capability of ports.
const PORT_MAPPINGS: &str = "portMappings";
const POD_NAMESPACE: &str = "K8S_POD_NAMESPACE";
const POD_NAME: &str = "K8S_POD_NAME";
const POD_UID: &str = "K8S_POD_UID";
/// Size of the token bucket, in bits: as good as no limit, which is what the annotations mean.
const BURST_BITS: u32 = 0x7fff_ffff;
/// Bits per second that Kubernetes takes for reasonable.
const REASONABLE_RATE: std::ops::RangeInclusive<u128> = 1_000..=1_000_000_000_000_000;

/// What plugins are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Join the pod to the network.
    Add,
    /// Take it out again.
    Del,
    /// Tell whether pods can be joined.
    Status,
    /// Give up what belongs to no attachment any more.
    Gc,
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Status => "STATUS",
            Verb::Gc => "GC",
        })
    }
}

/// What all calls of one attachment have in common; kept, so that DEL says what ADD said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parameters {
    /// The sandbox's id.
    pub(super) container_id: String,
    /// `CNI_ARGS`, in order.
    pub(super) args: Vec<(String, String)>,
    /// What plugins get in `runtimeConfig` if they ask for it, by capability.
    pub(super) capabilities: Map<String, Value>,
}

impl Parameters {
    /// Takes them from the attachment and the node.
    pub(super) fn of(attachment: &Attachment, pod_cidrs: &PodCidrs) -> Result<Self, Error> {
        let Attachment { container_id, netns: _, pod } = attachment;
        if !is_id(container_id) {
            return Err(Error::Argument { key: "CNI_CONTAINERID", value: container_id.clone() });
        }
        check(pod)?;
        let args = [
            ("IgnoreUnknown", "1"),
            (POD_NAMESPACE, &pod.namespace),
            (POD_NAME, &pod.name),
            ("K8S_POD_INFRA_CONTAINER_ID", container_id),
            (POD_UID, &pod.uid),
        ];
        Ok(Parameters {
            container_id: container_id.clone(),
            args: args.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            capabilities: capabilities(pod, pod_cidrs)?,
        })
    }

    /// The ports of the node that plugins are told of.
    pub(super) fn port_mappings(&self) -> Vec<PortMapping> {
        let told = self.capabilities.get(PORT_MAPPINGS).and_then(Value::as_array);
        told.into_iter().flatten().filter_map(port_mapping_of).collect()
    }

    /// The environment of one call. An empty `netns` says that it is gone.
    pub(super) fn environment(&self, verb: Verb, netns: &str, bin: &[PathBuf]) -> [(&'static str, OsString); 6] {
        let args: Vec<_> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        [
            ("CNI_COMMAND", verb.to_string().into()),
            ("CNI_CONTAINERID", self.container_id.clone().into()),
            ("CNI_NETNS", netns.into()),
            ("CNI_IFNAME", INTERFACE.into()),
            ("CNI_PATH", search_path(bin)),
            ("CNI_ARGS", args.join(";").into()),
        ]
    }

    /// The request to one plugin: its configuration, with what the specification puts in and takes out.
    pub(super) fn request(
        &self,
        list: &NetworkList,
        plugin: &Plugin,
        previous: Option<&Map<String, Value>>,
    ) -> Vec<u8> {
        let mut request = configuration(list, plugin);
        let asked = self.capabilities.iter().filter(|(name, _)| plugin.capabilities.contains(name));
        let told: Map<String, Value> = asked.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !told.is_empty() {
            request.insert("runtimeConfig".to_owned(), Value::Object(told));
        }
        if let Some(previous) = previous {
            request.insert("prevResult".to_owned(), Value::Object(previous.clone()));
        }
        Value::Object(request).to_string().into_bytes()
    }
}

/// Whether plugins can be told of a pod.
pub(super) fn check(pod: &Pod) -> Result<(), Error> {
    for (key, value) in [(POD_NAMESPACE, &pod.namespace), (POD_NAME, &pod.name), (POD_UID, &pod.uid)] {
        // either would make two arguments of one
        if value.contains([';', '=']) || value.contains(char::is_control) {
            return Err(Error::Argument { key, value: value.clone() });
        }
    }
    bandwidth(&pod.annotations).map(drop)
}

/// The environment of a call that is about a whole network.
pub(super) fn network_environment(verb: Verb, bin: &[PathBuf]) -> [(&'static str, OsString); 2] {
    [("CNI_COMMAND", verb.to_string().into()), ("CNI_PATH", search_path(bin))]
}

/// The request of such a call; `valid` are the sandboxes whose attachments GC leaves alone.
pub(super) fn network_request(list: &NetworkList, plugin: &Plugin, valid: Option<&[String]>) -> Vec<u8> {
    let mut request = configuration(list, plugin);
    if let Some(valid) = valid {
        let attachments = valid.iter().map(|id| json!({ "containerID": id, "ifname": INTERFACE })).collect();
        request.insert("cni.dev/valid-attachments".to_owned(), Value::Array(attachments));
    }
    Value::Object(request).to_string().into_bytes()
}

/// A plugin's configuration with what every request has.
fn configuration(list: &NetworkList, plugin: &Plugin) -> Map<String, Value> {
    let mut request = plugin.json.clone();
    request.remove("capabilities");
    request.insert("name".to_owned(), list.name.as_str().into());
    request.insert("cniVersion".to_owned(), list.version.as_str().into());
    request
}

fn search_path(bin: &[PathBuf]) -> OsString {
    let path: Vec<_> = bin.iter().map(|dir| dir.as_os_str()).collect();
    path.join(":".as_ref())
}

/// Capabilities by the names that CNI's conventions give them.
fn capabilities(pod: &Pod, pod_cidrs: &PodCidrs) -> Result<Map<String, Value>, Error> {
    let mut all = Map::new();
    if !pod.port_mappings.is_empty() {
        let mappings = pod.port_mappings.iter().map(port_mapping).collect();
        all.insert(PORT_MAPPINGS.to_owned(), Value::Array(mappings));
    }
    let bandwidth = bandwidth(&pod.annotations)?;
    if !bandwidth.is_empty() {
        all.insert("bandwidth".to_owned(), Value::Object(bandwidth));
    }
    // one set of ranges for each family: an address is taken from each
    let ranges: Vec<Value> = pod_cidrs.iter().map(|cidr| json!([{ "subnet": cidr }])).collect();
    if !ranges.is_empty() {
        all.insert("ipRanges".to_owned(), Value::Array(ranges));
    }
    if let Some(Dns { servers, searches, options }) = &pod.dns {
        let dns = json!({ "servers": servers, "searches": searches, "options": options });
        all.insert("dns".to_owned(), dns);
    }
    Ok(all)
}

fn port_mapping(mapping: &PortMapping) -> Value {
    let mut json = json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol,
    });
    if !mapping.host_ip.is_empty() {
        json["hostIP"] = mapping.host_ip.as_str().into();
    }
    json
}

/// None for what is no mapping of ports.
fn port_mapping_of(json: &Value) -> Option<PortMapping> {
    let port = |key: &str| json[key].as_u64().and_then(|port| u16::try_from(port).ok());
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    Some(PortMapping {
        host_port: port("hostPort")?,
        container_port: port("containerPort")?,
        protocol: text("protocol"),
        host_ip: text("hostIP"),
    })
}

/// Rates in bits per second, from the annotations that Kubernetes has for them.
fn bandwidth(annotations: &BTreeMap<String, String>) -> Result<Map<String, Value>, Error> {
    let mut told = Map::new();
    let directions = [
        ("kubernetes.io/ingress-bandwidth", "ingressRate", "ingressBurst"),
        ("kubernetes.io/egress-bandwidth", "egressRate", "egressBurst"),
    ];
    for (key, rate_key, burst_key) in directions {
        let Some(text) = annotations.get(key) else { continue };
        let refused = |reason: &str| Error::Annotation { key, reason: format!("{text:?} {reason}") };
        let rate = quantity::parse(text).ok_or_else(|| refused("is not a quantity such as 10M"))?;
        if !REASONABLE_RATE.contains(&rate) {
            return Err(refused("is not between 1k and 1P"));
        }
        let rate = u64::try_from(rate).map_err(|_| refused("is not between 1k and 1P"))?;
        told.insert(rate_key.to_owned(), rate.into());
        told.insert(burst_key.to_owned(), BURST_BITS.into());
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::super::conflist;
    use super::*;

    fn attachment() -> Attachment {
        of_pod(pod())
    }

    fn of_pod(pod: Pod) -> Attachment {
        Attachment { container_id: "c1".to_owned(), netns: "/proc/7/ns/net".to_owned(), pod }
    }

    fn pod() -> Pod {
        Pod {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            uid: "u-1".to_owned(),
            port_mappings: Vec::new(),
            annotations: BTreeMap::new(),
            dns: None,
        }
    }

    fn parameters(attachment: &Attachment, pod_cidrs: &str) -> Result<Parameters, Error> {
        Parameters::of(attachment, &PodCidrs::parse(pod_cidrs).unwrap())
    }

    fn annotated(key: &str, value: &str) -> Attachment {
        of_pod(Pod { annotations: BTreeMap::from([(key.to_owned(), value.to_owned())]), ..pod() })
    }

    fn request(parameters: &Parameters, plugin: &str, previous: Option<&Map<String, Value>>) -> Value {
        let content = format!(r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{plugin}]}}"#);
        let list = conflist::read("a.conflist", content.as_bytes()).unwrap();
        serde_json::from_slice(&parameters.request(&list, &list.plugins[0], previous)).unwrap()
    }

    #[test]
    fn the_environment_says_who_what_and_where() {
        let parameters = parameters(&attachment(), "").unwrap();
        let environment = parameters.environment(Verb::Add, "/proc/7/ns/net", &["/a".into(), "/b".into()]);
        let environment: BTreeMap<_, _> = environment.into_iter().collect();
        let args =
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1";
        let expected = [
            ("CNI_ARGS", args),
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/proc/7/ns/net"),
            ("CNI_PATH", "/a:/b"),
        ];
        assert_eq!(environment, expected.map(|(key, value)| (key, OsString::from(value))).into());
    }

    #[test]
    fn a_request_is_the_plugins_configuration_with_what_cni_adds_and_removes() {
        let parameters = parameters(&attachment(), "").unwrap();
        let previous = json!({"ips": []});
        let plugin = r#"{"type": "b", "name": "other", "mtu": 9, "capabilities": {"portMappings": true}}"#;
        let first = request(&parameters, plugin, None);
        assert_eq!(first, json!({"type": "b", "name": "pods", "cniVersion": "1.0.0", "mtu": 9}));
        let second = request(&parameters, plugin, previous.as_object());
        assert_eq!(second["prevResult"], previous);
    }

    #[test]
    fn only_capabilities_that_a_plugin_declares_are_told_to_it() {
        let mut wanted = annotated("kubernetes.io/ingress-bandwidth", "10M");
        wanted.pod.port_mappings = vec![
            PortMapping { host_port: 80, container_port: 8080, protocol: "tcp".to_owned(), host_ip: String::new() },
            PortMapping { host_port: 53, container_port: 53, protocol: "udp".to_owned(), host_ip: "::1".to_owned() },
        ];
        let parameters = parameters(&wanted, "10.1.0.0/24, fd00::/64").unwrap();
        let told = |capabilities: &str| {
            let plugin = format!(r#"{{"type": "b", "capabilities": {{{capabilities}}}}}"#);
            request(&parameters, &plugin, None).get("runtimeConfig").cloned()
        };
        assert_eq!(told(""), None);
        assert_eq!(told(r#""dns": true"#), None, "the pod has no DNS of its own");
        assert_eq!(told(r#""portMappings": false"#), None);
        let mappings = json!([
            {"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"},
        ]);
        assert_eq!(told(r#""portMappings": true"#), Some(json!({"portMappings": mappings})));
        let two = told(r#""bandwidth": true, "ipRanges": true"#).unwrap();
        assert_eq!(two["bandwidth"], json!({"ingressRate": 10_000_000, "ingressBurst": 2_147_483_647}));
        assert_eq!(two["ipRanges"], json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]));
    }

    #[test]
    fn a_plugin_that_asks_for_dns_is_told_the_pods() {
        let dns = Dns { servers: vec!["10.1.0.10".to_owned()], searches: vec!["a.b".to_owned()], options: Vec::new() };
        let parameters = parameters(&of_pod(Pod { dns: Some(dns), ..pod() }), "").unwrap();
        let told = request(&parameters, r#"{"type": "b", "capabilities": {"dns": true}}"#, None);
        let expected = json!({"dns": {"servers": ["10.1.0.10"], "searches": ["a.b"], "options": []}});
        assert_eq!(told["runtimeConfig"], expected);
    }

    #[test]
    fn calls_about_a_network_name_no_attachment_but_those_that_stay() {
        let content =
            r#"{"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "b", "capabilities": {"x": true}}]}"#;
        let list = conflist::read("a.conflist", content.as_bytes()).unwrap();
        let request =
            |valid| -> Value { serde_json::from_slice(&network_request(&list, &list.plugins[0], valid)).unwrap() };
        let plain = json!({"type": "b", "name": "pods", "cniVersion": "1.1.0"});
        assert_eq!(request(None), plain);
        let c1 = ["c1".to_owned()];
        let valid = request(Some(&c1));
        assert_eq!(valid["cni.dev/valid-attachments"], json!([{"containerID": "c1", "ifname": "eth0"}]));
        assert_eq!(request(Some(&[]))["cni.dev/valid-attachments"], json!([]));
        let environment = network_environment(Verb::Gc, &["/a".into()]);
        assert_eq!(environment, [("CNI_COMMAND", "GC".into()), ("CNI_PATH", "/a".into())]);
    }

    #[test]
    fn a_bad_bandwidth_is_refused_by_its_annotations_name() {
        for key in ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"] {
            for value in ["", "fast", "-1M", "999", "2P", "1Ei"] {
                let refused = parameters(&annotated(key, value), "").unwrap_err().to_string();
                assert!(refused.contains(key) && refused.contains(&format!("{value:?}")), "{refused}");
            }
            assert!(parameters(&annotated(key, "1P"), "").is_ok());
        }
    }

    #[test]
    fn what_would_break_the_arguments_is_refused() {
        let cases = [
            of_pod(Pod { name: "a;K8S_POD_UID=x".to_owned(), ..pod() }),
            of_pod(Pod { namespace: "a=b".to_owned(), ..pod() }),
            of_pod(Pod { uid: "a\0".to_owned(), ..pod() }),
            Attachment { container_id: "../c1".to_owned(), ..attachment() },
            Attachment { container_id: String::new(), ..attachment() },
        ];
        for case in cases {
            assert!(matches!(parameters(&case, ""), Err(Error::Argument { .. })), "{case:?}");
        }
    }
}
