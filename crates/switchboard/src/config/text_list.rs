//! Lists of texts with a rule for each text.

use toml::Spanned;
use toml::de::DeValue;

use super::kind::{describe, quote, refuse};
use super::section::{Kind, Mismatch};

/// A list of texts.
pub(super) struct TextList {
    /// Description of one text, for errors and the reference: "an origin as browsers send it, …".
    each: &'static str,
    is_allowed: fn(&str) -> bool,
}

impl TextList {
    /// A list whose texts all satisfy `is_allowed`; `each` says in words what one text must be.
    pub(super) const fn of(each: &'static str, is_allowed: fn(&str) -> bool) -> Self {
        Self { each, is_allowed }
    }

    fn mismatch(&self, index: usize, found: String) -> Mismatch {
        Mismatch { inside: format!("[{index}]"), ..Mismatch::new(self.each, found) }
    }
}

impl Kind<Vec<String>> for TextList {
    fn type_name(&self) -> String {
        format!("list of texts, each {}", self.each)
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(refuse(&format!("a list of texts, each {}", self.each), value));
        };
        let mut texts = Vec::with_capacity(items.len());
        let mut wrong = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::String(text) if (self.is_allowed)(text) => texts.push(text.to_string()),
                other => {
                    wrong.push(Mismatch { span: Some(item.span()), ..self.mismatch(index, describe(other)) });
                }
            }
        }
        if wrong.is_empty() { Ok(texts) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<String>) -> String {
        format!("[{}]", value.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
    }

    fn check(&self, value: &Vec<String>) -> Vec<Mismatch> {
        let wrong = value.iter().enumerate().filter(|(_, text)| !(self.is_allowed)(text));
        wrong.map(|(index, text)| self.mismatch(index, quote(text))).collect()
    }
}
