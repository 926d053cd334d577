//! Lists in the guides that claim to be complete are complete.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;

use serde_json::Value;
use switchboard::proto::close::CloseReason;

const ADMIN: &str = include_str!("../../../../docs/guide/admin.md");
const OPERATING: &str = include_str!("../../../../docs/guide/operating.md");

/// The rows of the first table under a heading of a page.
fn table<'a>(page: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    section.lines().skip_while(|line| !line.starts_with('|')).skip(2).take_while(|line| line.starts_with('|'))
}

fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn api() -> Value {
    serde_json::from_str(&switchboard::admin::openapi_json().unwrap()).unwrap()
}

#[test]
fn the_admin_guide_lists_every_route() {
    let mut listed = BTreeSet::new();
    for row in table(ADMIN, "## All routes") {
        // "`GET`, `POST /v1/rooms`": a method without a path has that of the next one.
        let mut methods = Vec::new();
        let mut last = String::new();
        for span in spans(row.split('|').nth(1).unwrap()) {
            let (method, path) = span.split_once(' ').unwrap_or((span, ""));
            methods.push(method);
            if path.is_empty() {
                continue;
            }
            // "…" repeats the path of the route before, but for its last part.
            let path = match path.strip_prefix("…/") {
                Some(end) => format!("{}/{end}", last.rsplit_once('/').unwrap().0),
                None => path.to_owned(),
            };
            listed.extend(methods.drain(..).map(|method| format!("{method} {path}")));
            last = path;
        }
    }
    let api = api();
    let paths = api["paths"].as_object().unwrap();
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    assert_eq!(listed, described);
}

#[test]
fn the_admin_guide_lists_every_error_code() {
    let listed: BTreeSet<&str> =
        table(ADMIN, "## Errors").flat_map(|row| spans(row.split('|').nth(2).unwrap())).collect();
    let api = api();
    let codes = api["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    // Codes of client commands are in their own guide.
    let commands = include_str!("../../../../docs/guide/commands.md");
    let of_commands: BTreeSet<&str> = spans(commands).collect();
    let described: BTreeSet<&str> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    let unlisted: Vec<&&str> =
        described.iter().filter(|code| !listed.contains(**code) && !of_commands.contains(**code)).collect();
    assert_eq!(unlisted, [&""; 0]);
    let invented: Vec<&&str> = listed.difference(&described).collect();
    assert_eq!(invented, [&""; 0]);
}

#[test]
fn the_operating_guide_lists_every_close_reason() {
    let (_, section) = OPERATING.split_once("| `reason` |").unwrap();
    let rows = section.lines().skip(2).take_while(|line| line.starts_with('|'));
    let listed: BTreeSet<&str> = rows.filter_map(|row| spans(row).next()).collect();
    let reasons: BTreeSet<&str> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(listed, reasons);
}

#[test]
fn certificates_and_keys_that_the_guides_make_are_not_put_under_version_control() {
    let ignored = include_str!("../../../../.gitignore");
    assert!(ignored.lines().any(|line| line == "*.pem"), "{ignored}");
}
