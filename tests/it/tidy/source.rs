//! Reads sources as text: comments, literals and test code are blanked, and what is left is cut into
//! words and paths.

use std::fs;
use std::path::Path;

/// One file of Rust.
pub struct Source {
    /// Relative to the root of the repository, with `/`.
    pub path: String,
    pub text: String,
    /// The text without comments, literals and test code; every line is where it was.
    pub production: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let production = without_tests(&code(text));
        Source { path: path.to_owned(), text: text.to_owned(), production }
    }

    pub fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The paths, without ending, of the modules that this file declares for tests only.
    fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"]
            .iter()
            .find_map(|name| stem.strip_suffix(name))
            .unwrap_or(stem);
        let code = code(&self.text);
        let declared = code.split("#[cfg(test)]").skip(1).filter_map(|item| {
            let declaration = item.split([';', '{']).next().unwrap_or_default();
            let is_file = item[declaration.len()..].starts_with(';');
            let mut words = declaration.split_whitespace().skip_while(|word| *word != "mod");
            words.nth(1).filter(|_| is_file)
        });
        declared.map(|name| format!("{folder}/{name}")).collect()
    }
}

/// The sources of some places of the repository. Modules declared for tests have no production code.
pub fn read_all(places: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for place in places {
        let before = sources.len();
        read(root, place, &mut sources);
        let must_hold_code = place.ends_with("src");
        assert!(!must_hold_code || sources.len() > before, "there is no source in {place}");
    }
    let for_tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        if for_tests.iter().any(|module| within(&source.path, module)) {
            source.production.clear();
        }
    }
    sources
}

/// Collects the sources at or below a path, in the order of their names.
fn read(root: &Path, path: &str, sources: &mut Vec<Source>) {
    let full = root.join(path);
    if full.is_dir() {
        let entries = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        for name in names.iter().filter(|name| *name != "target") {
            read(root, &format!("{path}/{name}"), sources);
        }
    } else if path.ends_with(".rs") && full.is_file() {
        sources.push(Source::new(path, &fs::read_to_string(&full).unwrap()));
    }
}

/// Whether a file is, or lies in, a place named without its ending.
pub fn within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Blanks comments and the insides of string and character literals.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = blank_end(&chars, at);
        if end == at {
            at += 1;
            continue;
        }
        for blank in out[at..end].iter_mut().filter(|character| **character != '\n') {
            *blank = ' ';
        }
        at = end;
    }
    out.into_iter().collect()
}

/// Where the comment or literal that begins at `at` ends; `at` where none begins.
fn blank_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => at + rest.iter().take_while(|&&character| character != '\n').count(),
        ['/', '*', ..] => block_comment_end(chars, at),
        ['"', ..] => string_end(chars, at),
        // A lifetime has no closing quote.
        ['\'', '\\', _, ..] => {
            let inside = rest[3..].iter().take_while(|&&character| character != '\'').count();
            (at + 3 + inside + 1).min(chars.len())
        }
        ['\'', _, '\'', ..] => at + 3,
        ['r', '"' | '#', ..] if !continues_word(chars, at) => raw_string_end(chars, at),
        _ => at,
    }
}

/// Whether the `r` at `at` is the end of a longer word; `br` and `cr` begin literals too.
fn continues_word(chars: &[char], at: usize) -> bool {
    match &chars[..at] {
        [.., before, 'b' | 'c'] => is_word(*before),
        ['b' | 'c'] | [] => false,
        [.., before] => is_word(*before),
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], start: usize) -> usize {
    let n_hashes = chars[start + 1..].iter().take_while(|&&character| character == '#').count();
    let open = start + 1 + n_hashes;
    if chars.get(open) != Some(&'"') {
        // A raw identifier.
        return start;
    }
    let mut close = vec!['#'; n_hashes + 1];
    close[0] = '"';
    let body = &chars[open + 1..];
    match body.windows(close.len()).position(|window| window == close) {
        Some(length) => open + 1 + length + close.len(),
        None => chars.len(),
    }
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(start);
        let (item, after) = item.split_at(item_end(item));
        out.push_str(before);
        out.extend(item.chars().filter(|&character| character == '\n'));
        rest = after;
    }
    out + rest
}

/// Where the item that begins with an attribute ends: at its `;`, or at the brace that closes it.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, character) in item.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                // The braces of a `use` are followed by its `;`.
                if depth == 0 && !item[at + 1..].starts_with(';') {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// The words and signs of some code, each with its line. `::` is one sign.
pub fn words(code: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|character| !is_word(character)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            words.push((index + 1, rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        }
    }
    words
}

/// A path's segments, with its line.
type Found = (usize, Vec<String>);

/// Every path in some code; the trees of `use` are spread out.
pub fn paths(code: &str) -> Vec<Found> {
    let words = words(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        at = match spread(&words, at, &[], &mut paths) {
            end if end > at => end,
            _ => at + 1,
        };
    }
    paths
}

/// Reads one path (or tree of paths) below a prefix and says where it ends.
fn spread(
    words: &[(usize, String)],
    start: usize,
    prefix: &[String],
    paths: &mut Vec<Found>,
) -> usize {
    let word = |at: usize| words.get(at).map_or("", |(_, word)| word.as_str());
    let mut path = prefix.to_vec();
    let mut at = start;
    loop {
        match word(at) {
            "{" if path.len() > prefix.len() => {
                at += 1;
                while !matches!(word(at), "}" | "") {
                    // What is no path (a comma, `as other`) is passed over.
                    at = spread(words, at, &path, paths).max(at + 1);
                    while !matches!(word(at), "," | "}" | "") {
                        at += 1;
                    }
                    at += usize::from(word(at) == ",");
                }
                return at + 1;
            }
            segment if segment.starts_with(is_word) => path.push(segment.to_owned()),
            "*" if path.len() > prefix.len() => path.push("*".to_owned()),
            _ => break,
        }
        if word(at + 1) != "::" || matches!(word(at + 2), "<" | "") {
            at += 1;
            break;
        }
        at += 2;
    }
    if path.len() > prefix.len() {
        paths.push((words[start].0, path));
    }
    at
}

#[test]
fn modules_declared_for_tests_are_known() {
    let declarations = "mod a;\n#[cfg(test)]\nmod fixture;\n#[cfg(test)]\nmod tests { mod b; }\n";
    for (path, module) in [
        ("src/ingest/mod.rs", "src/ingest/fixture"),
        ("src/ingest/log.rs", "src/ingest/log/fixture"),
        ("engine/src/lib.rs", "engine/src/fixture"),
    ] {
        assert_eq!(Source::new(path, declarations).test_modules(), [module]);
    }
}

#[test]
fn blanking_keeps_what_is_code() {
    for (text, expected) in [
        ("a // b\nc", "a\nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x\\\"y\", 'z', '\\'', '\\u{41}')", "f(      ,    ,     ,         )"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("r#\"a\"b\"# r#type for\"c\"", "         r#type for"),
        ("br\"a\" var", "b     var"),
    ] {
        let blanked = code(text);
        let trimmed: Vec<&str> = blanked.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected, "{text}");
    }
}
