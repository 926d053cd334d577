//! Markdown: links lead somewhere, and every page can be found.

use std::collections::{BTreeSet, HashMap};

use super::tree::{File, Tree};
use super::{Problem, Report};

/// Where readers begin.
const ENTRANCES: [&str; 2] = ["README.md", "docs/README.md"];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.with_extension("md") {
        for link in links(&file.text) {
            if let Err(reason) = follow(tree, file, &link.target) {
                report.problems.push(Problem::at(
                    &file.path,
                    link.line,
                    format!("the link to {} {reason}", link.target),
                ));
            }
        }
    }
    if tree.get(ENTRANCES[0]).is_none() {
        report.problems.push(Problem::of_file(ENTRANCES[0], "is missing"));
    }
    let found = reachable(tree);
    for file in tree.with_extension("md").filter(|file| file.is_under(&["docs/"])) {
        if !found.contains(file.path.as_str()) && !ENTRANCES.contains(&file.path.as_str()) {
            let what = "cannot be found from README.md or docs/README.md: link to it";
            report.problems.push(Problem::of_file(&file.path, what));
        }
    }
}

/// A link and the line it is in.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// Pages that can be reached from the entrances.
fn reachable(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut to_read: Vec<&File> = ENTRANCES.into_iter().filter_map(|path| tree.get(path)).collect();
    while let Some(file) = to_read.pop() {
        if !found.insert(file.path.clone()) {
            continue;
        }
        for link in links(&file.text) {
            if let Ok(Some(page)) = follow(tree, file, &link.target) {
                to_read.push(page);
            }
        }
    }
    found
}

/// The page that a link leads to; `None` for what is no page of ours.
fn follow<'a>(tree: &'a Tree, from: &'a File, target: &str) -> Result<Option<&'a File>, String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let page = if path.is_empty() {
        from
    } else {
        let path = resolve(&from.path, path).ok_or("leads out of the repository")?;
        match tree.get(&path).or_else(|| tree.get(&format!("{path}/README.md"))) {
            Some(page) => page,
            None if tree.has_folder(&path) => return Ok(None),
            None => return Err("leads nowhere: correct it".to_owned()),
        }
    };
    if page.extension() != "md" {
        return Ok(None);
    }
    match heading {
        Some(heading) if !anchors(&page.text).contains(heading) => {
            Err(format!("leads to no heading of {}: correct it", page.path))
        }
        _ => Ok(Some(page)),
    }
}

/// `target` as seen from the file `from`, from the root.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.replace("%20", " ");
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => from.rsplit_once('/').map_or_else(Vec::new, |(folder, _)| folder.split('/').collect()),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The links of a page: `[text](target)`, `[name]: target`, `<a href="target">`.
fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, content) in prose(text) {
        let mut push = |target: &str| {
            // A title may follow.
            let target = target.trim().split(char::is_whitespace).next().unwrap_or_default();
            let target = target.trim_start_matches('<').trim_end_matches('>');
            if !target.is_empty() {
                links.push(Link { line, target: target.to_owned() });
            }
        };
        for (at, _) in content.match_indices("](") {
            push(until_closed(&content[at + 2..]));
        }
        for (at, mark) in content.match_indices("href=\"") {
            push(content[at + mark.len()..].split('"').next().unwrap_or_default());
        }
        if content.starts_with('[')
            && let Some((name, target)) = content.split_once("]: ")
            && !name.starts_with("[^")
            && !name.contains(']')
        {
            push(target);
        }
    }
    links
}

/// Up to the bracket that closes what was opened before.
fn until_closed(text: &str) -> &str {
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => return &text[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    text
}

/// What a link to a part of a page may name: its headings as repositories' web pages write them, and anchors.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, line) in prose_with_code(text) {
        for mark in ["id=\"", "name=\""] {
            for (at, _) in line.match_indices(mark) {
                anchors.insert(line[at + mark.len()..].split('"').next().unwrap_or_default().to_owned());
            }
        }
        let marks = line.len() - line.trim_start_matches('#').len();
        if (1..=6).contains(&marks) && line[marks..].starts_with(' ') {
            let slug = slug(line[marks..].trim());
            let count = counts.entry(slug.clone()).or_default();
            anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
            *count += 1;
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    // Of a link only its text is shown.
    let mut shown = String::new();
    let mut rest = heading;
    while let Some((before, behind)) = rest.split_once("](") {
        shown.push_str(before);
        rest = behind.split_once(')').map_or("", |(_, rest)| rest);
    }
    shown.push_str(rest);
    let kept = shown.chars().filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|character| if character == ' ' { '-' } else { character }).collect()
}

/// The lines of a page without code, which links to nothing.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    prose_with_code(text).map(|(number, line)| (number, without_code_spans(line)))
}

/// The lines of a page without blocks of code.
pub(super) fn prose_with_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => {
                fence = Some(mark);
                None
            }
            (Some(open), Some(mark)) if open == mark => {
                fence = None;
                None
            }
            (Some(_), _) => None,
            (None, None) => Some((index + 1, line)),
        }
    })
}

/// Blanks what stands between backticks. A backtick without a partner is itself.
fn without_code_spans(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let marks = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        let (before, behind) = (&rest[..at], &rest[at + marks..]);
        out.push_str(before);
        match behind.find(&"`".repeat(marks)) {
            Some(end) => rest = &behind[end + marks..],
            None => {
                out.push_str(&rest[at..at + marks]);
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let text = "[a](b.md) and [`c`](d/e.md#f \"title\"), ![g](h.png)\n`[i](j)` ``k ` [l](m)``\n\
            ```sh\n[n](o)\n```\n[p]: q.md\n[^1]: r.md\n<a href=\"s.md\">t</a> [u](v_(w).md)\n[x](<y.md>) [z]()\n";
        let found: Vec<(usize, String)> = links(text).into_iter().map(|link| (link.line, link.target)).collect();
        let found: Vec<(usize, &str)> = found.iter().map(|(line, target)| (*line, target.as_str())).collect();
        let expected =
            [(1, "b.md"), (1, "d/e.md#f"), (1, "h.png"), (6, "q.md"), (8, "v_(w).md"), (8, "s.md"), (9, "y.md")];
        assert_eq!(found, expected);
    }

    #[test]
    fn headings_are_named_as_on_the_web() {
        let text = "# The `one` line, really!\n## A_b c-d\n## A_b c-d\n### See [this](x.md) too\n```\n# not me\n```\n<a id=\"here\"></a>\n#nor me\n";
        let expected = ["a_b-c-d", "a_b-c-d-1", "here", "see-this-too", "the-one-line-really"];
        let found = anchors(text);
        assert_eq!(found.iter().map(|anchor| anchor.trim_start_matches('[')).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_link_leads_somewhere() {
        let page = |link: &str| format!("# Top\n\n[a]({link})\n");
        for (link, expected) in [
            ("docs/guide/a.md", None),
            ("docs/guide/a.md#part-two", None),
            ("docs/guide", None),
            ("docs/", None),
            ("src/main.rs#L10", None),
            ("#top", None),
            ("https://example.org/a#b", None),
            ("mailto:a@example.org", None),
            ("docs/guide/b.md", Some("leads nowhere")),
            ("docs/guide/a.md#part-three", Some("leads to no heading of docs/guide/a.md")),
            ("#bottom", Some("leads to no heading of README.md")),
            ("../other/a.md", Some("leads out of the repository")),
        ] {
            let readme = format!("{}\n[docs](docs/README.md)\n", page(link));
            let found = problems(&[
                ("README.md", readme.as_str()),
                ("docs/README.md", "[a](guide/a.md) [top](../README.md#top)\n"),
                ("docs/guide/a.md", "## Part two\n"),
                ("src/main.rs", ""),
            ]);
            match expected {
                None => assert_eq!(found, [""; 0], "{link}"),
                Some(expected) => {
                    assert_eq!(found.len(), 1, "{link}");
                    assert!(found[0].starts_with(&format!("README.md:3: the link to {link} {expected}")), "{found:?}");
                }
            }
        }
    }

    #[test]
    fn every_page_can_be_found() {
        let lost = |readme: &str, docs: &str| {
            problems(&[
                ("README.md", readme),
                ("docs/README.md", docs),
                ("docs/a.md", "[b](b.md)\n"),
                ("docs/b.md", ""),
                ("conformance/README.md", ""),
            ])
        };
        assert_eq!(lost("", "[a](a.md)\n"), [""; 0]);
        assert_eq!(
            lost("[b](docs/b.md)\n", ""),
            ["docs/a.md: cannot be found from README.md or docs/README.md: link to it"]
        );
        assert_eq!(lost("", "").len(), 2);
    }
}
