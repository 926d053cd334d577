//! What clients did when they were asked. No sockets and no clock.

use std::collections::HashSet;

use super::LoadError;
use super::payload::find;

/// A command, as far as a client needs to know it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// What the reply is matched by.
    pub(super) id: &'a [u8],
    /// The number that its sender gave it.
    pub(super) number: u64,
    /// Whether at most one client may ever execute it.
    pub(super) once: bool,
}

impl<'a> Asked<'a> {
    /// Reads a command in any of the protocols; `None` for anything else.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (id, rest) = if let Some(rest) = text.strip_prefix(br#"{"context":"command","_id":""#) {
            rest.split_at(rest.iter().position(|&byte| byte == b'"')?)
        } else {
            let rest = text.strip_prefix(b"42")?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (id, rest) = rest.split_at(digits);
            (id, rest.strip_prefix(br#"["command","#)?)
        };
        if id.is_empty() {
            return None;
        }
        let digits = &rest[find(rest, NUMBER)? + NUMBER.len()..];
        let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
        if !(1..=18).contains(&digits.len()) {
            return None;
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        Some(Self { id, number, once: find(rest, ONCE).is_some() })
    }

    /// The reply of this target.
    pub(super) fn reply(&self, target: usize) -> String {
        format!(r#"{{"success":true,"n":{},"by":{target}}}"#, self.number)
    }
}

const NUMBER: &[u8] = br#""n":"#;
const ONCE: &[u8] = br#""once":true"#;

/// Who executed what.
#[derive(Debug)]
pub(super) struct Executions {
    by_target: Vec<HashSet<u64>>,
    once: HashSet<u64>,
    /// How often anything was executed.
    pub(super) count: u64,
}

impl Executions {
    pub(super) fn new(targets: usize) -> Self {
        Self { by_target: vec![HashSet::new(); targets], once: HashSet::new(), count: 0 }
    }

    /// Books that a target executes a command.
    ///
    /// # Errors
    ///
    /// When it has executed it before, or somebody has and nobody else may.
    pub(super) fn book(&mut self, target: usize, asked: &Asked<'_>) -> Result<(), LoadError> {
        let number = asked.number;
        let executed = self.by_target.get_mut(target);
        if !executed.is_some_and(|executed| executed.insert(number)) || (asked.once && !self.once.insert(number)) {
            return Err(LoadError::Disorder(format!("target {target} was asked for command {number} once too often")));
        }
        self.count += 1;
        Ok(())
    }

    /// Forgets what was executed, where numbers begin anew.
    pub(super) fn clear(&mut self) {
        self.by_target.iter_mut().for_each(HashSet::clear);
        self.once.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(number: u64, once: bool) -> Asked<'static> {
        Asked { id: b"17", number, once }
    }

    #[test]
    fn a_command_is_read_in_every_protocol() {
        let line = br#"{"context":"command","_id":"bycAiK7YabTfCGqBQ","key":"bench","cmd":{"key":"bench","n":12,"once":true},"ts":1}"#;
        let heard = Asked { id: b"bycAiK7YabTfCGqBQ", number: 12, once: true };
        assert_eq!(Asked::parse(line), Some(heard));
        assert_eq!(Asked::parse(br#"4217["command",{"key":"bench","n":5,"once":false}]"#), Some(asked(5, false)));
        for other in [&br#"42["command",{"n":5}]"#[..], br#"{"context":"response","n":5}"#, br#"4217["other",{"n":5}]"#]
        {
            assert_eq!(Asked::parse(other), None, "{}", other.escape_ascii());
        }
        assert_eq!(asked(5, false).reply(3), r#"{"success":true,"n":5,"by":3}"#);
    }

    #[test]
    fn a_target_executes_a_command_once() {
        let mut executions = Executions::new(2);
        executions.book(0, &asked(1, false)).unwrap();
        executions.book(1, &asked(1, false)).unwrap();
        assert!(matches!(executions.book(0, &asked(1, false)), Err(LoadError::Disorder(_))));
        assert!(executions.book(2, &asked(1, false)).is_err(), "nobody is target 2");
        assert_eq!(executions.count, 2);
        executions.clear();
        executions.book(0, &asked(1, false)).unwrap();
    }

    #[test]
    fn what_one_may_execute_nobody_else_executes() {
        let mut executions = Executions::new(2);
        executions.book(0, &asked(1, true)).unwrap();
        assert!(matches!(executions.book(1, &asked(1, true)), Err(LoadError::Disorder(_))));
    }
}
