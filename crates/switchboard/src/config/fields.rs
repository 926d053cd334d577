//! Tables inside a value: items of a list, such as rooms, actions and users.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::{describe, quote};
use super::section::Mismatch;

/// A table being read, and what is wrong with it.
pub(super) struct Fields<'a, 'de> {
    pub(super) table: &'a DeTable<'de>,
    pub(super) complaints: &'a mut Vec<Mismatch>,
}

impl<'de> Fields<'_, 'de> {
    /// Reads a part, if it is there; `expected` says what it should have been, beside what was found.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Spanned<DeValue<'de>>) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.get(name)?;
        let taken = read(value);
        if taken.is_none() {
            let wrong = Mismatch::new(expected, describe(value.get_ref()));
            self.complaints.push(wrong.at(value).of_part(name));
        }
        taken
    }

    /// Refuses parts that are not among `keys`; `noun` is what has those, as in "an action".
    pub(super) fn refuse_others(&mut self, noun: &str, keys: &[&str]) {
        for (key, _) in self.table {
            if !keys.contains(&key.get_ref().as_ref()) {
                let text = format!("unknown key; {noun} has {}", keys.join(", "));
                let wrong = Mismatch { inside: String::new(), span: Some(key.span()), text, found: None };
                self.complaints.push(wrong.of_part(key.get_ref()));
            }
        }
    }

    /// Says something about the whole.
    pub(super) fn complain(&mut self, item: &Spanned<DeValue<'_>>, text: &str) {
        self.complaints.push(Mismatch {
            found: None,
            text: text.into(),
            inside: String::new(),
            span: Some(item.span()),
        });
    }
}

/// A list of texts.
pub(super) fn texts(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    value.get_ref().as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
}

/// A list of texts as TOML.
pub(super) fn write_texts(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", texts.join(", "))
}
