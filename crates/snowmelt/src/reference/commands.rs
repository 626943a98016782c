//! The page of all commands, from the definitions that the command line is parsed by, and the examples in their help.

use clap::{Arg, Command};

use super::cell;

const INTRODUCTION: &str = "\
# Commands

Made from the code by `cargo xtask generate`; `snowmelt COMMAND --help` says the same. `-v` logs what the roles do,
`--log-format json` logs one JSON object per line (`SNOWMELT_LOG_FORMAT`), and `SNOWMELT_LOG` is a filter such as
`info` or `batch=debug`. Data goes to stdout, everything else to stderr.
";

/// The whole page.
pub(super) fn markdown(command: &Command) -> String {
    let mut text = INTRODUCTION.to_owned();
    each(command, &mut |path, command| {
        let mut command = command.clone().bin_name(path).disable_help_flag(true);
        text.push_str(&format!("\n## {path}\n\n"));
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
        text.push_str(&format!("{}\n", about.unwrap_or_default().trim()));
        let usage = command.render_usage().to_string();
        text.push_str(&format!("\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ")));
        let arguments: Vec<&Arg> = command
            .get_arguments()
            .filter(|it| !it.is_hide_set() && !it.is_global_set() && it.get_id() != "version")
            .collect();
        if !arguments.is_empty() {
            text.push_str("\n| Argument | Meaning |\n|---|---|\n");
        }
        for argument in arguments {
            let meaning = cell(&argument.get_help().map(ToString::to_string).unwrap_or_default());
            text.push_str(&format!(
                "| `{}` | {meaning}{} |\n",
                cell(&name_of(argument)),
                notes(argument)
            ));
        }
        let examples: Vec<Example> = examples(&command);
        if !examples.is_empty() {
            text.push_str("\n```sh\n");
            examples.iter().for_each(|example| text.push_str(&format!("{}\n", example.0)));
            text.push_str("```\n");
        }
    });
    text
}

fn name_of(argument: &Arg) -> String {
    let value = match argument.get_action().takes_values() {
        true => {
            let names = argument.get_value_names().unwrap_or_default();
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
        }
        false => String::new(),
    };
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    match [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ") {
        flags if flags.is_empty() => value,
        flags => format!("{flags} {value}").trim().to_owned(),
    }
}

fn notes(argument: &Arg) -> String {
    let mut notes = String::new();
    let defaults: Vec<_> =
        argument.get_default_values().iter().filter_map(|it| it.to_str()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        notes.push_str(&format!("; default `{}`", defaults.join(" ")));
    }
    let possible = argument.get_possible_values();
    if argument.get_action().takes_values() && !possible.is_empty() {
        let names: Vec<String> = possible.iter().map(|it| format!("`{}`", it.get_name())).collect();
        notes.push_str(&format!("; one of {}", names.join(", ")));
    }
    if let Some(variable) = argument.get_env().and_then(|it| it.to_str()) {
        notes.push_str(&format!("; environment `{variable}`"));
    }
    notes
}

/// Calls `visit` with each command below the root and its whole name, in the order of the help.
fn each(command: &Command, visit: &mut dyn FnMut(&str, &Command)) {
    fn below(path: &str, command: &Command, visit: &mut dyn FnMut(&str, &Command)) {
        for sub in
            command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help")
        {
            let path = format!("{path} {}", sub.get_name());
            visit(&path, sub);
            below(&path, sub, visit);
        }
    }
    below(command.get_name(), command, visit);
}

/// One line that a user may type.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Example(String);

/// The examples in a command's help: the lines after `Examples:`.
fn examples(command: &Command) -> Vec<Example> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.map(|line| Example(line.trim().to_owned())).filter(|it| !it.0.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    use crate::commands::CommandLine;

    /// The words of each part of a shell line, single and double quotes read as a shell does.
    fn words(line: &str) -> Vec<Vec<String>> {
        let (mut parts, mut word, mut quote) = (vec![Vec::new()], None::<String>, None);
        for c in line.chars() {
            match (c, quote) {
                (c, Some(q)) if c == q => quote = None,
                (c, Some(_)) => word.get_or_insert_default().push(c),
                ('"' | '\'', None) => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                ('|' | '>', None) => parts.push(Vec::new()),
                (c, None) if c.is_whitespace() => parts.last_mut().unwrap().extend(word.take()),
                (c, None) => word.get_or_insert_default().push(c),
            }
        }
        parts.last_mut().unwrap().extend(word);
        parts
    }

    #[test]
    fn every_command_has_examples_and_each_of_them_can_be_typed() {
        let root = CommandLine::command();
        let mut count = 0;
        each(&root, &mut |path, command| {
            let found = examples(command);
            assert!(!found.is_empty(), "`{path} --help` has no examples");
            for example in found {
                let parts = words(&example.0);
                let ours =
                    parts.iter().filter(|part| part.first().is_some_and(|it| it == "snowmelt"));
                let mut own = 0;
                for arguments in ours {
                    let parsed = CommandLine::command().try_get_matches_from(arguments);
                    assert!(parsed.is_ok(), "`{}`: {}", example.0, parsed.unwrap_err());
                    own += usize::from(arguments.join(" ").starts_with(path));
                }
                assert!(own > 0, "`{}` is not an example of `{path}`", example.0);
                count += 1;
            }
        });
        assert!(count > 20, "{count}");
    }
}
