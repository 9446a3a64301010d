//! `weaprous check`: what is wrong with a proxy configuration and the files that it names, what is odd about it, and what
//! it would serve. Opens no socket and looks up no name.

use crate::args::Check;
use crate::exit::Failure;
use crate::say::{complain, say};
use proxy::conf::{Action, Checked, Pass, Policy, Rules, Upstream};
use proxy::{Config, ConfigError, ConfigWarning, LoadError};
use std::fmt::Write as _;
use std::time::SystemTime;

/// Looks at a file. Mistakes are the failure, with exit code 2; warnings are not.
pub(crate) fn run(args: &Check) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let looked = if args.no_files {
        Config::check_file(&args.file)
    } else {
        Config::check_file_and_others(&args.file, SystemTime::now())
    };
    let (checked, warnings) = match looked {
        Ok(Checked { outcome, warnings }) => (outcome, warnings),
        Err(LoadError::Invalid(errors)) => (Err(errors), Vec::new()),
        Err(error @ LoadError::Unreadable { .. }) => return Err(Failure::Usage(error.to_string())),
    };
    if args.json {
        let errors = checked.as_ref().err().map_or(&[][..], Vec::as_slice);
        say(json(&file, errors, &warnings) + "\n");
    } else {
        for warning in &warnings {
            complain(format_args!("{warning}\n"));
        }
        match &checked {
            Ok(config) => say(summary(&file, config)),
            Err(errors) => errors.iter().for_each(|error| complain(format_args!("{error}\n"))),
        }
    }
    match checked {
        Ok(_) => Ok(()),
        Err(errors) if errors.len() == 1 => Err(Failure::Usage(format!("{file} has a mistake"))),
        Err(errors) => Err(Failure::Usage(format!("{file} has {} mistakes", errors.len()))),
    }
}

/// What the configuration would serve, for people.
fn summary(file: &str, config: &Config) -> String {
    let mut text = format!("{file} is fine.\n");
    let listen: Vec<String> = config.listen.iter().map(|listen| listen.address.to_string()).collect();
    let listen = if listen.is_empty() { "where the command line says".to_owned() } else { listen.join(", ") };
    let _ = writeln!(text, "\nlisten  {listen}");
    for host in &config.hosts {
        let names: Vec<String> = host.names.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\nhost    {}", names.join(", "));
        let mut lines: Vec<(String, String)> = Vec::new();
        for location in &host.locations {
            let exact = matches!(location.path, proxy::conf::PathPattern::Exact(_));
            let path = location.path.as_str();
            lines.push((if exact { format!("= {path}") } else { path.to_owned() }, answer(&location.rules)));
        }
        lines.extend(host.root.iter().map(|rules| ("everything else".to_owned(), answer(rules))));
        let width = lines.iter().map(|(path, _)| path.len()).max().unwrap_or_default();
        for (path, answer) in lines {
            let _ = writeln!(text, "  {path:<width$}  {answer}");
        }
    }
    for upstream in config.upstreams.iter().filter(|upstream| upstream.is_named) {
        let _ = writeln!(text, "\nupstream {} ({})", upstream.name, policy(upstream));
        for server in &upstream.servers {
            let weight = if server.weight == 1 { String::new() } else { format!(" weight={}", server.weight) };
            let max = server.max_conns.map(|max| format!(" max_conns={max}")).unwrap_or_default();
            let backup = if server.backup { " backup" } else { "" };
            let _ = writeln!(text, "  {}{weight}{max}{backup}", server.address);
        }
    }
    text
}

fn answer(rules: &Rules) -> String {
    let mut text = match &rules.action {
        Action::Pass(Pass { upstream, .. }) if upstream.is_named => format!("→ upstream {}", upstream.name),
        Action::Pass(Pass { upstream, .. }) => {
            let servers: Vec<String> = upstream.servers.iter().map(|server| server.address.to_string()).collect();
            format!("→ {}", servers.join(", "))
        }
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
        Action::Respond(respond) => format!("respond {}", respond.status),
        Action::Files(files) => format!("files from {}", files.folder.display()),
    };
    for (is_there, what) in [
        (!rules.access.is_empty(), "by address"),
        (rules.basic_auth.is_some(), "with a password"),
        (rules.forward_auth.is_some(), "if another program lets it pass"),
        (rules.rate_limit.is_some(), "at a limited rate"),
    ] {
        if is_there {
            let _ = write!(text, ", {what}");
        }
    }
    text
}

fn policy(upstream: &Upstream) -> String {
    match &upstream.policy {
        Policy::RoundRobin => "round-robin".to_owned(),
        Policy::LeastConn => "least-conn".to_owned(),
        Policy::RandomTwo => "random-two".to_owned(),
        Policy::IpHash => "ip-hash".to_owned(),
        Policy::HashHeader(name) => format!("hash header {name}"),
        Policy::HashCookie(name) => format!("hash cookie {name}"),
        Policy::Sticky(name) => format!("sticky {name}"),
    }
}

/// The same for editors: one object.
fn json(file: &str, errors: &[ConfigError], warnings: &[ConfigWarning]) -> String {
    let errors: Vec<_> = errors
        .iter()
        .map(|error| {
            serde_json::json!({
                "line": error.line, "column": error.column, "hint": error.hint,
                "message": format!("expected {}, found {}", error.expected, error.found),
            })
        })
        .collect();
    let warnings: Vec<_> = warnings
        .iter()
        .map(|warning| {
            serde_json::json!({
                "line": warning.line, "column": warning.column, "hint": warning.hint, "message": warning.sentence,
            })
        })
        .collect();
    serde_json::json!({ "file": file, "errors": errors, "warnings": warnings }).to_string()
}
