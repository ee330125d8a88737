//! Holds what is compiled from `proto/api.proto` against the schema table in `fixtures/cri-v1-schema.txt`: every service, RPC,
//! message, field and enum, in both directions. It must not read `api.proto` itself: what counts is what the build made of it.
//!
//! Both sides are turned into the same flat list of facts, one line each (`message Mount: 3 readonly bool`), and the two lists
//! must be equal.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

const TABLE: &str = include_str!("fixtures/cri-v1-schema.txt");
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.descriptors"));
const PACKAGE: &str = "runtime.v1";

#[test]
fn the_wire_is_the_schema_table() {
    let table = table_facts(TABLE).unwrap();
    let compiled = compiled_facts(&file());
    let missing: Vec<_> = table.difference(&compiled).collect();
    let extra: Vec<_> = compiled.difference(&table).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not in api.proto: {missing:#?}\nnot in the table: {extra:#?}");
}

#[test]
fn all_rpcs_of_kubernetes_1_36_are_there() {
    let rpcs = |service: &str| {
        let service = file().service.into_iter().find(|known| known.name() == service).unwrap();
        service.method.len()
    };
    assert_eq!((rpcs("RuntimeService"), rpcs("ImageService")), (35, 6));
}

#[test]
fn a_table_that_cannot_be_read_is_an_error() {
    let wrong = [
        "message Mount\n  x readonly bool",
        "message Mount\n  3 readonly",
        "message Mount\n  3 readonly bool sometimes",
        "message Mount extra",
        "  3 readonly bool",
        "enum Protocol: TCP",
        "enum Protocol",
        "service S\n  Version VersionRequest -> VersionResponse",
        "oneof x",
        "message Mount\n  3 readonly bool\n  3 readonly bool",
    ];
    for table in wrong {
        assert!(table_facts(table).is_err(), "{table:?}");
    }
}

#[test]
fn any_change_of_the_wire_is_seen() {
    type Change = fn(&mut FileDescriptorProto);
    let changes: [(&str, Change); 9] = [
        ("number", |file| mount_field(file).number = Some(77)),
        ("name", |file| mount_field(file).name = Some("other".to_owned())),
        ("type", |file| mount_field(file).r#type = Some(Type::Int32.into())),
        ("repeated", |file| mount_field(file).label = Some(Label::Repeated.into())),
        ("deprecated", |file| mount_field(file).options.get_or_insert_default().deprecated = Some(true)),
        ("field", |file| drop(message(file, "Mount").field.pop())),
        ("message", |file| drop(file.message_type.pop())),
        ("enum value", |file| file.enum_type[0].value[0].number = Some(9)),
        ("stream", |file| file.service[0].method[0].server_streaming = Some(true)),
    ];
    let table = table_facts(TABLE).unwrap();
    for (what, change) in changes {
        let mut changed = file();
        change(&mut changed);
        assert_ne!(compiled_facts(&changed), table, "a changed {what} goes unseen");
    }
}

type Facts = BTreeSet<String>;

// --- the table ---

/// Reads the table: a heading in the first column (`message X`, `service X`), its members indented below it; an enum is one line.
fn table_facts(table: &str) -> Result<Facts, String> {
    let mut facts = Facts::new();
    let mut heading = "";
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let new = match line.strip_prefix("  ") {
            Some(member) => table_member(heading, member).map(|member| vec![format!("{heading}: {member}")]),
            None if line.starts_with("enum ") => table_enum(line),
            None => table_heading(line).map(|new| {
                heading = new;
                vec![heading.to_owned()]
            }),
        };
        for fact in new.ok_or_else(|| format!("{line:?} can't be read"))? {
            if !facts.insert(fact) {
                return Err(format!("{line:?} is there twice"));
            }
        }
    }
    Ok(facts)
}

/// `message X`, `message X {}` (no fields) or `service X`.
fn table_heading(line: &str) -> Option<&str> {
    let heading = line.strip_suffix(" {}").unwrap_or(line);
    let name = heading.strip_prefix("message ").or_else(|| heading.strip_prefix("service "))?;
    is_name(name).then_some(heading)
}

/// A line below a heading.
fn table_member<'a>(heading: &str, member: &'a str) -> Option<&'a str> {
    match heading.split(' ').next()? {
        "service" => table_rpc(member),
        "message" => table_field(member),
        _ => None,
    }
}

/// `Version: VersionRequest -> VersionResponse`, the answer perhaps with `stream` before it.
fn table_rpc(member: &str) -> Option<&str> {
    let (name, types) = member.split_once(": ")?;
    let (request, response) = types.split_once(" -> ")?;
    let response = response.strip_prefix("stream ").unwrap_or(response);
    [name, request, response].into_iter().all(is_name).then_some(member)
}

/// `7 labels map<string,string>`, `1 servers repeated string`, `9 apparmor_profile string deprecated`.
fn table_field(member: &str) -> Option<&str> {
    let words: Vec<&str> = member.strip_suffix(" deprecated").unwrap_or(member).split(' ').collect();
    let (number, name, kind) = match words[..] {
        [number, name, kind] | [number, name, "repeated", kind] => (number, name, kind),
        _ => return None,
    };
    let kind_is_known = is_name(kind) || kind == "map<string,string>";
    (number.parse::<u16>().is_ok() && is_name(name) && kind_is_known).then_some(member)
}

/// `enum Protocol: TCP=0, UDP=1`: a fact for each value.
fn table_enum(line: &str) -> Option<Vec<String>> {
    let (heading, values) = line.split_once(": ")?;
    is_name(heading.strip_prefix("enum ")?).then_some(())?;
    let value = |value: &str| {
        let (name, number) = value.split_once('=')?;
        (is_name(name) && number.parse::<u16>().is_ok()).then(|| format!("{heading}: {name}={number}"))
    };
    values.split(", ").map(value).collect()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
}

// --- what was compiled ---

fn file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the build writes what protox gives");
    let mut files = set.file.into_iter().filter(|file| file.package() == PACKAGE);
    let file = files.next().expect("the package was compiled");
    assert_eq!(files.next(), None, "one file is the whole package");
    assert_eq!(file.syntax(), "proto3");
    file
}

fn compiled_facts(file: &FileDescriptorProto) -> Facts {
    let services = file.service.iter().flat_map(service_facts);
    let messages = file.message_type.iter().flat_map(|message| message_facts("", message));
    let enums = file.enum_type.iter().flat_map(|known| enum_facts("", known));
    services.chain(messages).chain(enums).collect()
}

fn service_facts(service: &ServiceDescriptorProto) -> Vec<String> {
    let heading = format!("service {}", service.name());
    let stream = |streaming: bool| if streaming { "stream " } else { "" };
    let rpc = |method: &prost_types::MethodDescriptorProto| {
        let (from, to) = (stream(method.client_streaming()), stream(method.server_streaming()));
        let (request, response) = (local(method.input_type()), local(method.output_type()));
        format!("{heading}: {}: {from}{request} -> {to}{response}", method.name())
    };
    std::iter::once(heading.clone()).chain(service.method.iter().map(rpc)).collect()
}

fn message_facts(outer: &str, message: &DescriptorProto) -> Vec<String> {
    let name = format!("{outer}{}", message.name());
    let heading = format!("message {name}");
    let mut facts = vec![heading.clone()];
    facts.extend(message.field.iter().map(|field| format!("{heading}: {}", field_fact(message, field))));
    let (inner, nested) = (format!("{name}."), message.nested_type.iter().filter(|nested| !is_map_entry(nested)));
    facts.extend(nested.flat_map(|nested| message_facts(&inner, nested)));
    facts.extend(message.enum_type.iter().flat_map(|nested| enum_facts(&inner, nested)));
    facts.extend(message.oneof_decl.iter().map(|oneof| format!("{heading}: oneof {}", oneof.name())));
    facts
}

fn field_fact(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut entries = message.nested_type.iter().filter(|nested| is_map_entry(nested));
    let entry = entries.find(|entry| field.type_name().ends_with(&format!(".{}.{}", message.name(), entry.name())));
    let repeated = field.label() == Label::Repeated && entry.is_none();
    let kind = match entry {
        Some(entry) => format!("map<{},{}>", kind(&entry.field[0]), kind(&entry.field[1])),
        None => kind(field),
    };
    let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
    format!(
        "{} {} {}{kind}{}",
        field.number(),
        field.name(),
        if repeated { "repeated " } else { "" },
        if deprecated { " deprecated" } else { "" }
    )
}

fn enum_facts(outer: &str, known: &EnumDescriptorProto) -> Vec<String> {
    let heading = format!("enum {outer}{}", known.name());
    known.value.iter().map(|value| format!("{heading}: {}={}", value.name(), value.number())).collect()
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// A field's type as the table writes it. A type that the table never has is written so that it can't be equal to one.
fn kind(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => local(field.type_name()).to_owned(),
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Uint32 => "uint32".to_owned(),
        Type::Uint64 => "uint64".to_owned(),
        Type::Double => "double".to_owned(),
        other => format!("{other:?}"),
    }
}

/// `.runtime.v1.Mount` → `Mount`.
fn local(type_name: &str) -> &str {
    type_name.strip_prefix(".runtime.v1.").unwrap_or(type_name)
}

// --- for `any_change_of_the_wire_is_seen` ---

fn message<'a>(file: &'a mut FileDescriptorProto, name: &str) -> &'a mut DescriptorProto {
    file.message_type.iter_mut().find(|message| message.name() == name).expect("a message of the package")
}

fn mount_field(file: &mut FileDescriptorProto) -> &mut FieldDescriptorProto {
    &mut message(file, "Mount").field[0]
}
