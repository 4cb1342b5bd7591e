//! The files of a new project: templates that are part of the program, with names filled in.
//!
//! A template's file name ends in `.in`, because it is not whole until then. Lines between `{{if ui}}` and `{{end}}`, and
//! text between `{{if-ui}}` and `{{end-ui}}`, are for projects with a page.

use std::path::PathBuf;

use include_dir::{Dir, include_dir};

use super::project::Language;

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// What is filled in.
pub(super) struct Values<'a> {
    /// Name of the plugin.
    pub(super) name: &'a str,
    /// Where the SDK is.
    pub(super) sdk: &'a str,
    /// Whether the plugin has a page.
    pub(super) ui: bool,
}

/// The files of a project: path below its directory, and content.
pub(super) fn files(language: Language, values: &Values<'_>) -> Vec<(PathBuf, String)> {
    let mut files = below(language.word(), values);
    if values.ui {
        files.extend(
            below("ui", values).into_iter().map(|(path, text)| (PathBuf::from("ui").join(path), text)),
        );
    }
    files
}

fn below(folder: &str, values: &Values<'_>) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut open: Vec<&Dir<'_>> = TEMPLATES.get_dir(folder).into_iter().collect();
    while let Some(directory) = open.pop() {
        open.extend(directory.dirs());
        for file in directory.files() {
            let path = file.path().strip_prefix(folder).unwrap_or(file.path()).with_extension("");
            let path = if path.as_os_str() == "gitignore" { PathBuf::from(".gitignore") } else { path };
            let text = fill(file.contents_utf8().unwrap_or_default(), values);
            // A file whose every line is for projects of the other kind.
            if !text.is_empty() {
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

fn fill(template: &str, values: &Values<'_>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut wanted = true;
    for line in template.lines() {
        match line.trim() {
            "{{if ui}}" => wanted = values.ui,
            "{{if no-ui}}" => wanted = !values.ui,
            "{{end}}" => wanted = true,
            _ if !wanted => {}
            _ => {
                text.push_str(&inline(line, values.ui));
                text.push('\n');
            }
        }
    }
    text.replace("{{name}}", values.name)
        .replace("{{title}}", &title(values.name))
        .replace("{{sdk}}", values.sdk)
}

/// A line with what stands between `{{if-ui}}` and `{{end-ui}}` only where it is wanted.
fn inline(line: &str, ui: bool) -> String {
    let Some((before, rest)) = line.split_once("{{if-ui}}") else { return line.to_owned() };
    let (inside, after) = rest.split_once("{{end-ui}}").unwrap_or((rest, ""));
    format!("{before}{}{after}", if ui { inside } else { "" })
}

/// The name for people: `slack-notifier` is "Slack Notifier".
fn title(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('-').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_template_is_left_in_a_project() {
        for language in [Language::Rust, Language::Python, Language::Node, Language::Go] {
            for ui in [false, true] {
                let files = files(language, &Values { name: "a-b", sdk: "/sdk", ui });
                assert!(files.len() >= 4, "{language:?}: {files:?}");
                assert!(files.iter().any(|(path, _)| path.ends_with(".gitignore")));
                assert_eq!(files.iter().any(|(path, _)| path.starts_with("ui")), ui);
                for (path, text) in files {
                    assert!(!text.contains("{{"), "{language:?}: {}: {text}", path.display());
                }
            }
        }
    }

    #[test]
    fn a_title_is_made_of_the_names_words() {
        assert_eq!(title("slack-notifier2"), "Slack Notifier2");
        assert_eq!(title("a--b"), "A  B");
    }
}
