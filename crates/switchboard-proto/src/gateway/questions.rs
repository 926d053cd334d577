//! Open questions of the server to a shard: their answers do not count against the shard's rate.

use std::collections::VecDeque;

/// Ids of commands and interactions that a shard was sent and has not answered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Questions {
    ids: VecDeque<Box<str>>,
}

impl Questions {
    /// Questions that are remembered for one session. Beyond that the oldest is forgotten, and its answer counts like
    /// any message. So a client that never answers costs at most 100 KiB: ids have up to 64 bytes.
    const MAX: usize = 1024;

    pub(super) fn ask(&mut self, id: &str) {
        if self.ids.len() == Self::MAX {
            self.ids.pop_front();
        }
        self.ids.push_back(id.into());
    }

    /// Removes a question that is answered. Returns `false` if it was not asked, or was answered before.
    pub(super) fn take(&mut self, id: &str) -> bool {
        // Clients answer in about the order in which they were asked.
        let at = self.ids.iter().position(|asked| **asked == *id);
        at.is_some_and(|at| self.ids.remove(at).is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_has_one_answer_and_the_oldest_beyond_the_limit_are_forgotten() {
        let mut questions = Questions::default();
        (0..=Questions::MAX).for_each(|id| questions.ask(&id.to_string()));
        assert!(!questions.take("0"), "it was forgotten");
        assert!(questions.take("2") && !questions.take("2") && questions.take("1"));
        assert!(!questions.is_empty());
        (3..=Questions::MAX).for_each(|id| assert!(questions.take(&id.to_string()), "{id}"));
        assert!(questions.is_empty());
    }
}
