//! The pages that may call this server from elsewhere, as a list of texts.

use switchboard_proto::origin::is_origin;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::{describe, quote, refuse};
use super::section::{Kind, Mismatch};

/// A list of origins, each as a browser sends it, or `*`.
pub(super) struct PageOrigins;

const ONE: &str = "an origin as browsers send it, such as \"https://app.example.org\", or \"*\"";

impl Kind<Vec<String>> for PageOrigins {
    fn type_name(&self) -> String {
        "list of texts, each an origin as browsers send it, or `*`".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(refuse("a list of origins such as [\"https://app.example.org\"]", value));
        };
        let mut origins = Vec::with_capacity(items.len());
        let mut wrong = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::String(text) if is_allowed(text) => origins.push(text.to_string()),
                other => wrong.push(Mismatch { span: Some(item.span()), ..mismatch(index, describe(other)) }),
            }
        }
        if wrong.is_empty() { Ok(origins) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<String>) -> String {
        format!("[{}]", value.iter().map(|origin| quote(origin)).collect::<Vec<_>>().join(", "))
    }

    fn check(&self, value: &Vec<String>) -> Vec<Mismatch> {
        let wrong = value.iter().enumerate().filter(|(_, origin)| !is_allowed(origin));
        wrong.map(|(index, origin)| mismatch(index, quote(origin))).collect()
    }
}

fn is_allowed(text: &str) -> bool {
    text == "*" || is_origin(text)
}

fn mismatch(index: usize, found: String) -> Mismatch {
    Mismatch { inside: format!("[{index}]"), ..Mismatch::new(ONE, found) }
}
