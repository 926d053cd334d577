//! How settings are declared: one line per key is struct field, default, type, documentation and table row at once.
//!
//! The [`settings!`] macro turns a list of keys into a public struct with `Default`, and into a [`Section`]: something
//! that shows each of its keys to a visitor. Loading, `config show`, `config reference` and the checks are visitors, so
//! a new key needs one entry in `settings.rs` and nothing else.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// A struct of settings that can be walked, key by key, in the order of declaration.
pub(super) trait Section {
    /// Shows every key below `path` (empty for the root) to the visitor.
    fn visit(&mut self, path: &str, visitor: &mut dyn FnMut(&Key<'_>, &mut dyn Slot));
}

/// What the table says about a key.
pub(super) struct Key<'a> {
    /// The whole name, as in `servers.socket.port`.
    pub(super) path: &'a str,
    /// The sentence that the reference prints: the doc comment of the field.
    pub(super) meaning: &'static str,
    /// What happens when a limit is reached; empty for what is not a limit.
    pub(super) reached: &'static str,
    /// The doc comment of the struct that has the field.
    pub(super) section_about: &'static str,
}

/// One setting inside a `Config`, whatever its type.
pub(super) trait Slot {
    /// The type with its unit and range, as in "whole number from 0 to 65535".
    fn type_name(&self) -> String;
    /// Takes over a value, or leaves the old one and says everything that is wrong with the new one.
    fn read(&mut self, value: &Spanned<DeValue<'_>>) -> Result<(), Vec<Mismatch>>;
    /// The value as TOML that `read` accepts.
    fn write(&self) -> String;
    /// Whether a secret is left out of what `write` gives, which is no TOML then.
    fn hides(&self) -> bool;
    /// The value as the reference shows it when it is the default.
    fn write_default(&self) -> String;
    /// What is wrong with the value that is there, for configurations made in code.
    fn check(&self) -> Vec<Mismatch>;
}

/// A type of setting: how it is called, read, written and checked.
pub(super) trait Kind<T> {
    /// See [`Slot::type_name`].
    fn type_name(&self) -> String;
    /// Reads a value that also passes [`Kind::check`].
    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Mismatch>>;
    /// See [`Slot::write`].
    fn write(&self, value: &T) -> String;
    /// See [`Slot::check`].
    fn check(&self, value: &T) -> Vec<Mismatch>;
    /// See [`Slot::hides`].
    fn hides(&self, _: &T) -> bool {
        false
    }
    /// See [`Slot::write_default`]; differs from `write` where the default depends on the machine.
    fn write_default(&self, value: &T) -> String {
        self.write(value)
    }
}

/// A value that does not fit its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Where inside a structured value, as in `[1].name`; empty for the value itself.
    pub(super) inside: String,
    /// The bytes of the source that are wrong, when they are narrower than the value.
    pub(super) span: Option<Range<usize>>,
    /// What is wrong, as in "expected a path".
    pub(super) text: String,
    /// The offending value; apart from the text, since the content of a secret's file must not be shown.
    pub(super) found: Option<String>,
}

impl Mismatch {
    /// The whole value is not what was expected.
    pub(super) fn new(expected: &str, found: String) -> Self {
        Self { inside: String::new(), span: None, text: format!("expected {expected}"), found: Some(found) }
    }

    /// The same, told at this place of the source.
    pub(super) fn at(self, place: &Spanned<DeValue<'_>>) -> Self {
        Self { span: Some(place.span()), ..self }
    }

    /// The same, about a part of a table.
    pub(super) fn of_part(self, name: &str) -> Self {
        Self { inside: format!(".{name}{}", self.inside), ..self }
    }

    /// The same, about an item of a list.
    pub(super) fn of_item(self, index: usize) -> Self {
        Self { inside: format!("[{index}]{}", self.inside), ..self }
    }
}

/// A field together with its kind: the only implementation of [`Slot`].
pub(super) struct Bound<'a, T, K> {
    pub(super) value: &'a mut T,
    pub(super) kind: K,
}

impl<T, K: Kind<T>> Slot for Bound<'_, T, K> {
    fn type_name(&self) -> String {
        self.kind.type_name()
    }

    fn read(&mut self, value: &Spanned<DeValue<'_>>) -> Result<(), Vec<Mismatch>> {
        *self.value = self.kind.read(value)?;
        Ok(())
    }

    fn write(&self) -> String {
        self.kind.write(self.value)
    }

    fn hides(&self) -> bool {
        self.kind.hides(self.value)
    }

    fn write_default(&self) -> String {
        self.kind.write_default(self.value)
    }

    fn check(&self) -> Vec<Mismatch> {
        self.kind.check(self.value)
    }
}

/// Joins a section's path and a name.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Declares a struct of settings.
///
/// ```text
/// settings! {
///     /// What the struct is.
///     pub struct Limits {
///         keys {
///             /// One sentence: the doc comment of the field and the text of the reference.
///             max_rooms: usize = 0, Whole::any(), reached "a new room is refused";
///         }
///         sections {
///             /// A struct made by the same macro, at `limits.nested`.
///             nested: Nested,
///         }
///     }
/// }
/// ```
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            keys { $(
                $(#[doc = $meaning:literal])+
                $key:ident: $type:ty = $default:expr, $kind:expr $(, reached $reached:literal)?;
            )* }
            sections { $(
                $(#[doc = $section_about:literal])+
                $section:ident: $section_type:ty,
            )* }
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $meaning])+
                $(#[doc = concat!("\n\nWhen it is reached: ", $reached, ".")])?
                pub $key: $type,
            )*
            $(
                $(#[doc = $section_about])+
                pub $section: $section_type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: $default,)*
                    $($section: <$section_type>::default(),)*
                }
            }
        }

        impl $crate::config::section::Section for $name {
            fn visit(
                &mut self,
                path: &str,
                visitor: &mut dyn FnMut(
                    &$crate::config::section::Key<'_>,
                    &mut dyn $crate::config::section::Slot,
                ),
            ) {
                let section_about = concat!($($about),+).trim_ascii_start();
                let _ = (path, section_about, &visitor);
                $(visitor(
                    &$crate::config::section::Key {
                        path: &$crate::config::section::join(path, stringify!($key)),
                        meaning: concat!($($meaning),+).trim_ascii_start(),
                        reached: concat!($($reached)?),
                        section_about,
                    },
                    &mut $crate::config::section::Bound { value: &mut self.$key, kind: $kind },
                );)*
                $($crate::config::section::Section::visit(
                    &mut self.$section,
                    &$crate::config::section::join(path, stringify!($section)),
                    visitor,
                );)*
            }
        }
    };
}
pub(super) use settings;
