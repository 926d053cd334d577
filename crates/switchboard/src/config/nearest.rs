//! Which valid name somebody meant.

/// The name that is most like `path`, if any is like it enough to be worth a question.
///
/// First a name that differs by a few letters, in `camelCase` or by hyphens; then one that is complete but in the wrong
/// section, as `limits.pending_max` for `actions.pending_max`.
pub(super) fn nearest<'a>(path: &str, names: &'a [String]) -> Option<&'a str> {
    let wanted = snake_case(path);
    let allowed = 1 + wanted.len() / 8;
    let similar = names
        .iter()
        .map(|name| (edits(&wanted, name), name))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name);
    similar.or_else(|| elsewhere(&wanted, names)).map(String::as_str)
}

/// A name with the same last part, if the part before it exists (so that nothing is proposed for a section that we
/// do not know at all) and only one section has it.
fn elsewhere<'a>(wanted: &str, names: &'a [String]) -> Option<&'a String> {
    let (section, last) = wanted.rsplit_once('.').unwrap_or(("", wanted));
    if !section.is_empty() && !names.iter().any(|name| name == section) {
        return None;
    }
    let mut same = names.iter().filter(|name| name.rsplit('.').next() == Some(last));
    same.next().filter(|_| same.next().is_none())
}

fn snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    let mut after_lower = false;
    for character in path.chars() {
        if character.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = character.is_ascii_lowercase();
        snake.push(if character == '-' { '_' } else { character.to_ascii_lowercase() });
    }
    snake
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{edits, nearest};

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        for (from, to, expected) in [("prot", "port", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)]
        {
            assert_eq!(edits(from, to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn a_name_is_proposed_only_when_it_is_near_or_in_another_section() {
        let names = ["servers", "servers.socket", "servers.socket.port", "limits", "actions", "actions.pending_max"]
            .map(String::from);
        for (written, meant) in [
            ("servers.socket.prot", Some("servers.socket.port")),
            ("server.socket.port", Some("servers.socket.port")),
            ("actions.pendingMax", Some("actions.pending_max")),
            ("actions.pending-max", Some("actions.pending_max")),
            ("limits.pending_max", Some("actions.pending_max")),
            ("port", Some("servers.socket.port")),
            ("socket", Some("servers.socket")),
            ("servers.web", None),
            ("servers.web.port", None),
            ("admin", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &names), meant, "{written}");
        }
    }
}
