//! Finds which source files use which others: parses paths in the code, and follows re-exports to the
//! file that defines the item.

use std::collections::{BTreeMap, BTreeSet};

/// The name of the crate in its binary and its tests.
const CRATE: &str = "presence_hub";

/// A path in the code, such as `crate::hub::Hub`, split into names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) names: Vec<String>,
    /// Whether it is a re-export by `pub use`.
    pub(super) is_handed_on: bool,
    /// The line, from 1.
    pub(super) line: usize,
}

/// The code of a file without comments; line numbers stay the same.
pub(super) fn code_of(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("//") {
        // Not the slashes of a URL in a string.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text of a file before its unit tests, in which `super` is the file itself.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// All paths in the code that begin with `crate`, the crate's name, `self`, `super`, or a module that
/// the file declares. A group of imports becomes several paths.
pub(super) fn paths(code: &str, declared: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    let starts = ["crate", CRATE, "self", "super"].into_iter();
    for start in starts.chain(declared.iter().map(String::as_str)) {
        for (at, _) in code.match_indices(&format!("{start}::")) {
            let before = &code[..at];
            // A quotation mark: a string that names a module, such as a log target.
            let goes_on = |c: char| c.is_alphanumeric() || ['_', ':', '"'].contains(&c);
            if before.ends_with(goes_on) {
                continue;
            }
            // Part of a group, which is read from the group's start.
            if before.trim_end().ends_with(['{', ',']) && is_in_group(before) {
                continue;
            }
            let statement = before.trim_end();
            let is_handed_on = statement.strip_suffix("use").is_some_and(|before| {
                let before = before.trim_end();
                before.ends_with("pub") || before.ends_with(')')
            });
            let line = before.matches('\n').count() + 1;
            let mut names = Vec::new();
            tree(&code[at..], &mut Vec::new(), &mut names);
            found.extend(names.into_iter().map(|names| Named { names, is_handed_on, line }));
        }
    }
    found
}

/// Whether the code ends inside a group of imports.
fn is_in_group(before: &str) -> bool {
    let statement = before.rfind(';').map_or(before, |end| &before[end..]);
    statement.rfind("use ").is_some_and(|start| statement[start..].contains("::{"))
}

/// Parses a tree of imports; returns the rest of the code.
fn tree<'a>(code: &'a str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = code.trim_start();
    let depth = path.len();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = tree(rest, path, found).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            path.truncate(depth);
            return rest.strip_prefix('}').unwrap_or_default();
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(further) if further.starts_with(|c| is_name(c) || c == '{') => rest = further,
            Some(_) | None => break,
        }
    }
    found.push(path.clone());
    path.truncate(depth);
    let rest = rest.trim_start();
    match rest.strip_prefix("as ") {
        Some(renamed) => {
            renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        }
        None => rest,
    }
}

/// The source as a tree of modules.
pub(super) struct Modules {
    /// The file of each module, by its path.
    files: BTreeMap<Vec<String>, String>,
    /// The imports of each module, by their local names.
    brought: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
    code: BTreeMap<Vec<String>, String>,
}

impl Modules {
    /// Parses files, given as paths from `src/` and texts.
    pub(super) fn read(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut modules =
            Self { files: BTreeMap::new(), brought: BTreeMap::new(), code: BTreeMap::new() };
        for (file, text) in files {
            let module = module_of(&file);
            modules.code.insert(module.clone(), code_of(without_tests(&text)));
            modules.files.insert(module, file);
        }
        for module in modules.files.keys() {
            let brought = modules.named_in(module).into_iter().filter_map(|named| {
                let path = modules.absolute(module, &named.names)?;
                Some((path.last()?.clone(), path))
            });
            modules.brought.insert(module.clone(), brought.collect());
        }
        modules
    }

    /// Each file's paths, from the crate's root, with their lines.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, usize, Vec<String>)> {
        self.files.iter().flat_map(move |(module, file)| {
            let named = self.named_in(module).into_iter();
            named.filter_map(move |named| {
                Some((file.as_str(), named.line, self.absolute(module, &named.names)?))
            })
        })
    }

    /// The files that each file uses.
    pub(super) fn uses(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let uses = self.files.iter().map(|(module, file)| {
            let used = self.named_in(module).into_iter().filter(|named| {
                // A re-export is used by its importers, not by this file, unless it is named here.
                let name = named.names.last().map_or("", String::as_str);
                !named.is_handed_on || has_word(&without_imports(&self.code[module]), name)
            });
            let used = used.filter_map(|named| {
                let path = self.absolute(module, &named.names)?;
                self.definer(&path, 0).filter(|used| *used != file.as_str())
            });
            (file.as_str(), used.collect())
        });
        uses.collect()
    }

    fn named_in(&self, module: &[String]) -> Vec<Named> {
        let inside = self.files.keys().filter(|other| {
            other.len() == module.len() + 1 && other.starts_with(module) && !module.is_empty()
        });
        let declared: Vec<_> = inside.filter_map(|module| module.last().cloned()).collect();
        paths(&self.code[module], &declared)
    }

    /// The path from the crate's root.
    fn absolute(&self, module: &[String], names: &[String]) -> Option<Vec<String>> {
        let mut path = module.to_vec();
        let mut names = names.iter().map(String::as_str).peekable();
        match names.next()? {
            "crate" | CRATE => path.clear(),
            "self" => (),
            "super" => {
                path.pop()?;
                while names.next_if_eq(&"super").is_some() {
                    path.pop()?;
                }
            }
            declared => path.push(declared.to_owned()),
        }
        path.extend(names.filter(|name| *name != "self").map(str::to_owned));
        Some(path)
    }

    /// The file that defines the item of a path.
    fn definer(&self, path: &[String], followed: usize) -> Option<&str> {
        let known = (0..=path.len()).rev().find(|end| self.files.contains_key(&path[..*end]))?;
        let (module, rest) = path.split_at(known);
        let brought = rest.first().and_then(|name| self.brought.get(module)?.get(name));
        match brought.filter(|brought| brought.as_slice() != path && followed < 8) {
            Some(brought) => {
                let further = [brought, &rest[1..]].concat();
                self.definer(&further, followed + 1)
            }
            None => self.files.get(module).map(String::as_str),
        }
    }
}

/// The module of a file: `src/hub/mailbox.rs` is `hub::mailbox`, `src/hub/mod.rs` is `hub`.
fn module_of(file: &str) -> Vec<String> {
    let inside = file.strip_prefix("src/").expect("a file of the source").trim_end_matches(".rs");
    let names = inside.split('/').filter(|name| !matches!(*name, "mod" | "lib"));
    names.map(str::to_owned).collect()
}

/// Whether the code contains a name.
fn has_word(code: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.split(|c| !is_name(c)).any(|word| word == name)
}

/// The code without imports and module declarations.
fn without_imports(code: &str) -> String {
    let is_kept = |statement: &&str| {
        let statement = statement.trim_start();
        let visible = statement.strip_prefix("pub").unwrap_or(statement);
        let visible = match visible.strip_prefix('(') {
            Some(within) => within.split_once(')').map_or("", |(_, rest)| rest),
            None => visible,
        };
        !["use ", "mod "].iter().any(|start| visible.trim_start().starts_with(start))
    };
    code.split_inclusive(';').filter(is_kept).collect()
}

/// The import cycles: sets of files that use each other, directly or indirectly.
pub(super) fn circles(uses: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<_, _> = uses.keys().map(|file| (*file, reach(uses, file))).collect();
    let mut found = BTreeSet::new();
    for (file, others) in &reached {
        if others.contains(file) {
            let same = others.iter().filter(|other| reached[*other].contains(file));
            found.insert(same.map(ToString::to_string).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

fn reach<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for used in &uses[file] {
            if reached.insert(*used) {
                open.push(used);
            }
        }
    }
    reached
}
