//! The command line as people meet it: help that teaches, manual pages, completions of real shells.

#![allow(clippy::unwrap_used, reason = "tests")]

mod generated;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use ipvs_agent::cli::{Cli, config};

fn agent(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipvs-agent"));
    command.args(words).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn names() -> Vec<String> {
    let command = Cli::command();
    let names = command.get_subcommands().map(|c| c.get_name().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_command_s_help_has_an_example_that_names_it() {
    for name in names() {
        let help = stdout(&agent(&[&name, "--help"]));
        let examples = help.split("Example").nth(1);
        let examples = examples.unwrap_or_else(|| panic!("{name} --help has no example:\n{help}"));
        assert!(
            examples.contains(&format!("ipvs-agent {name}")),
            "the example of {name} is another command's:\n{help}"
        );
    }
}

#[test]
fn every_command_and_flag_has_its_place_in_the_manual() {
    let pages = tempfile::tempdir().unwrap();
    stdout(&agent(&["man", pages.path().to_str().unwrap()]));
    let page = |name: &str| fs::read_to_string(pages.path().join(name)).unwrap();
    let whole = page("ipvs-agent.1");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        if name == "help" {
            continue;
        }
        assert!(
            whole.contains(&format!("ipvs\\-agent\\-{}(1)", name.replace('-', "\\-"))),
            "{name}"
        );
        let own = page(&format!("ipvs-agent-{name}.1"));
        for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
            let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(own.contains(&written), "{name} {flag}");
        }
    }
    assert_eq!(
        stdout(&agent(&["man"])).lines().next(),
        whole.lines().next()
    );
}

#[test]
fn bash_completes_the_commands() {
    let script = stdout(&agent(&["completions", "bash"]));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ipvs-agent.bash");
    fs::write(&file, script).unwrap();
    let completed = |words: &str, last: usize| {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; \
             $(complete -p ipvs-agent | sed 's/.*-F \\([^ ]*\\).*/\\1/') ipvs-agent \
             \"${{COMP_WORDS[$COMP_CWORD]}}\" \"${{COMP_WORDS[$COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            Path::display(&file)
        );
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("ipvs-agent clean", 1), "cleanup");
    assert_eq!(completed("ipvs-agent run --manif", 2), "--manifests");
    assert_eq!(
        completed("ipvs-agent run --dataplane ''", 3),
        "auto ipvs iptables"
    );
}

/// Whatever the other shells make of it, they get every command.
#[test]
fn each_shell_gets_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&agent(&["completions", shell]));
        for name in names() {
            assert!(script.contains(&name), "{shell} has no {name}");
        }
    }
}

#[test]
fn a_word_that_is_no_command_is_answered_with_the_nearest() {
    let output = agent(&["lsit"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("'list'"), "{told}");
}

/// The tables of `docs/configuration.md` are those of the definitions. `UPDATE_DOCS=1` writes them.
/// ipvsadm's exit code for a line that is none, on its command line or among rules.
#[test]
fn wrong_rules_and_wrong_words_exit_alike() {
    let rules = std::env::temp_dir().join(format!("ipvs-agent-rules-{}", std::process::id()));
    fs::write(&rules, "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1\n").unwrap();
    let input = fs::File::open(&rules).unwrap();
    let restored = Command::new(env!("CARGO_BIN_EXE_ipvs-agent"))
        .args(["ipvsadm", "-R"])
        .stdin(input)
        .output()
        .unwrap();
    fs::remove_file(&rules).unwrap();
    let said = String::from_utf8_lossy(&restored.stderr);
    assert!(said.contains("line 2"), "{said}");
    assert_eq!(restored.status.code(), Some(2), "{said}");
    assert_eq!(agent(&["ipvsadm", "-Q"]).status.code(), Some(2));
}

/// On standard output a file that sets the same; what is in vain beside it.
#[test]
fn a_configuration_is_checked_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kube-proxy.yaml");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                mode: iptables\nhostnameOverride: n7\nconntrack: {min: 131072}\nclusterCIDR: 10.244.0.0/16\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let words = ["run", "--check-config", "--config", file];
    let output = agent(&[&words[..], &["--cluster-cidr", "10.1.0.0/16"]].concat());
    let told = stdout(&output);
    let has = |line: &str| told.lines().any(|told| told.trim() == line);
    assert!(
        has("nodeName: n7") && has("dataplane: iptables"),
        "the file's: {told}"
    );
    assert!(
        has("- 10.1.0.0/16") && !told.contains("10.244"),
        "the flag's: {told}"
    );
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(
        warnings.contains("warning: line 5: conntrack.min is not done"),
        "{warnings}"
    );
}

#[test]
fn options_that_would_be_ignored_are_refused() {
    for words in [
        &["list", "-o", "json", "--watch"][..],
        &["list", "-o", "wide", "-c"],
        &["list", "--watch", "--interval", "0s"],
        &["list", "--interval", "5s"],
    ] {
        assert_eq!(agent(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn the_configurations_tables_are_the_programs() {
    let mut command = Cli::command();
    let run = command.find_subcommand_mut("run").unwrap();
    run.build();
    let mut fields = "| field | flag | default | |\n|---|---|---|---|\n".to_owned();
    for arg in run.get_arguments() {
        let Some(flag) = arg.get_long() else { continue };
        if ["config", "check-config", "help"].contains(&flag) {
            continue;
        }
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        let default = match flag {
            "node-name" => "the host's name".to_owned(),
            _ if defaults.is_empty() => String::new(),
            _ => format!("`{}`", defaults.join(",")),
        };
        let help = arg.get_help().unwrap().to_string().replace('|', "\\|");
        let field = config::field_of(flag);
        fields += &format!("| `{field}` | `--{flag}` | {default} | {help} |\n");
    }
    let mut theirs = "| field | |\n|---|---|\n".to_owned();
    for (field, told) in config::fields_of_kube_proxy() {
        theirs += &format!("| `{field}` | {told} |\n");
    }
    let tables = [("fields", fields), ("kube-proxy", theirs)];
    generated::hold("docs/configuration.md", &tables, "command_line");
}
