//! What a typed line means.

use std::net::SocketAddr;

use chat::client::Command;
use chat::{ChannelName, TEXT_BYTES_MAX, UserName, Visibility};

/// The commands, as help shows them: what to type, what it does.
pub(crate) const COMMANDS: [(&str, &str); 13] = [
    ("/join CHANNEL", "come into a channel"),
    ("/create [--private] CHANNEL", "make a channel"),
    ("/leave [CHANNEL]", "go from a channel"),
    ("/invite USER", "let somebody into this channel"),
    ("/remove USER", "put somebody out of this channel"),
    ("/msg USER TEXT", "write to one user alone"),
    ("/channels", "which channels there are"),
    ("/peers", "who is there, and how they are reached"),
    ("/connect IP:PORT", "connect to a peer's address"),
    ("/history [COUNT]", "show earlier messages"),
    ("/help", "this list"),
    ("/quit", "leave the program"),
    ("//TEXT", "say something that starts with /"),
];

/// How many messages `/history` shows when it is not told.
const HISTORY_COUNT: usize = 20;
/// Most messages `/history` shows.
const HISTORY_COUNT_MAX: usize = 100_000;

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// An empty line.
    Nothing,
    /// Something for the node.
    Command(Command),
    /// Turn to the conversation with a user, saying nothing yet.
    Open(ChannelName),
    /// Show earlier messages.
    History(usize),
    /// Show the commands.
    Help,
}

/// Reads a line typed by `me` while `channel` is open.
///
/// # Errors
/// A sentence for the person who typed it.
pub(crate) fn parse(line: &str, me: &UserName, channel: &ChannelName) -> Result<Input, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Ok(Input::Nothing);
    }
    match line.strip_prefix('/') {
        None => say(channel, line),
        Some(rest) if rest.starts_with('/') => say(channel, rest),
        Some(rest) => parse_command(rest, me, channel),
    }
}

fn say(channel: &ChannelName, text: &str) -> Result<Input, String> {
    check_length(text)?;
    Ok(Input::Command(Command::Say { channel: channel.clone(), text: text.to_owned() }))
}

fn check_length(text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a message has at most {TEXT_BYTES_MAX} bytes, this one has {}: split it", text.len()));
    }
    Ok(())
}

fn parse_command(rest: &str, me: &UserName, channel: &ChannelName) -> Result<Input, String> {
    let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let arguments = arguments.trim();
    let command = match name.to_ascii_lowercase().as_str() {
        "join" | "j" => Command::Join { channel: channel_name(arguments, "/join CHANNEL")? },
        "create" => create(arguments)?,
        "leave" | "part" if arguments.is_empty() => Command::Leave { channel: channel.clone() },
        "leave" | "part" => Command::Leave { channel: channel_name(arguments, "/leave [CHANNEL]")? },
        "invite" => Command::Invite { channel: channel.clone(), user: user_name(arguments, "/invite USER")? },
        "remove" => Command::Remove { channel: channel.clone(), user: user_name(arguments, "/remove USER")? },
        "msg" | "m" => return message(arguments, me),
        "channels" => Command::Channels,
        "peers" | "who" => Command::Peers,
        "connect" => Command::Connect { address: address(arguments)? },
        "history" => return history(arguments),
        "help" | "h" | "?" => return Ok(Input::Help),
        "quit" | "q" | "exit" => Command::Quit,
        _ => {
            let name = chat::text::printable_line(name);
            let name: String = name.chars().take(NAME_SHOWN_CHARS).collect();
            return Err(format!("there is no command /{name}: type /help for those there are"));
        }
    };
    Ok(Input::Command(command))
}

/// How much of an unknown command is repeated to who typed it.
const NAME_SHOWN_CHARS: usize = 24;

fn create(arguments: &str) -> Result<Command, String> {
    const USAGE: &str = "/create [--private] CHANNEL";
    let (name, visibility) = match arguments.split_once(char::is_whitespace) {
        Some(("--private", name)) => (name.trim(), Visibility::Private),
        _ => (arguments, Visibility::Public),
    };
    let channel = channel_name(name, USAGE)?;
    if channel.is_direct() {
        return Err("a direct channel needs no making: write /msg USER TEXT".to_owned());
    }
    Ok(Command::Create { channel, visibility })
}

fn message(arguments: &str, me: &UserName) -> Result<Input, String> {
    const USAGE: &str = "/msg USER TEXT";
    let (name, text) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    let user = user_name(name, USAGE)?;
    let channel = ChannelName::direct(me, &user).map_err(|_| "that is you: write to somebody else".to_owned())?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(Input::Open(channel));
    }
    check_length(text)?;
    Ok(Input::Command(Command::Message { user, text: text.to_owned() }))
}

fn address(argument: &str) -> Result<SocketAddr, String> {
    argument.parse().map_err(|_| usage("/connect IP:PORT", "for example /connect 192.168.1.20:9101"))
}

fn history(argument: &str) -> Result<Input, String> {
    if argument.is_empty() {
        return Ok(Input::History(HISTORY_COUNT));
    }
    match argument.parse() {
        Ok(count @ 1..=HISTORY_COUNT_MAX) => Ok(Input::History(count)),
        _ => Err(usage("/history [COUNT]", "for example /history 50")),
    }
}

fn channel_name(text: &str, form: &str) -> Result<ChannelName, String> {
    let text = text.strip_prefix('#').unwrap_or(text);
    text.parse().map_err(|error: chat::NameError| usage(form, &error.to_string()))
}

fn user_name(text: &str, form: &str) -> Result<UserName, String> {
    text.parse().map_err(|error: chat::NameError| usage(form, &error.to_string()))
}

fn usage(form: &str, why: &str) -> String {
    format!("write {form}: {why}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(line: &str) -> Result<Input, String> {
        parse(line, &"alice".parse().unwrap(), &channel("general"))
    }

    fn channel(name: &str) -> ChannelName {
        name.parse().unwrap()
    }

    #[test]
    fn lines_and_what_they_mean() {
        let say = |text: &str| Command::Say { channel: channel("general"), text: text.to_owned() };
        let bob: UserName = "bob".parse().unwrap();
        let cases = [
            ("hello", say("hello")),
            ("  indented \r\n", say("  indented ")),
            ("//etc/passwd", say("/etc/passwd")),
            ("/join #Rust", Command::Join { channel: channel("rust") }),
            ("/create news", Command::Create { channel: channel("news"), visibility: Visibility::Public }),
            ("/create --private x", Command::Create { channel: channel("x"), visibility: Visibility::Private }),
            ("/leave", Command::Leave { channel: channel("general") }),
            ("/leave rust", Command::Leave { channel: channel("rust") }),
            ("/invite bob", Command::Invite { channel: channel("general"), user: bob.clone() }),
            ("/remove bob", Command::Remove { channel: channel("general"), user: bob.clone() }),
            ("/msg Bob  hi there ", Command::Message { user: bob, text: "hi there".to_owned() }),
            ("/PEERS", Command::Peers),
            ("/channels", Command::Channels),
            ("/connect 127.0.0.1:9101", Command::Connect { address: "127.0.0.1:9101".parse().unwrap() }),
            ("/quit", Command::Quit),
        ];
        for (line, command) in cases {
            assert_eq!(parsed(line), Ok(Input::Command(command)), "{line}");
        }
        assert_eq!(parsed("/msg bob"), Ok(Input::Open(channel("@alice+bob"))));
        assert_eq!(parsed("/history"), Ok(Input::History(20)));
        assert_eq!(parsed("/history 7"), Ok(Input::History(7)));
        assert_eq!(parsed("/help"), Ok(Input::Help));
        assert_eq!(parsed("   \n"), Ok(Input::Nothing));
    }

    #[test]
    fn mistakes_are_answered_with_what_to_type() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let cases = [
            ("/jion general", "there is no command /jion: type /help for those there are"),
            ("/\u{1b}[2J", r"there is no command /\u{1b}[2J: type /help for those there are"),
            ("/join", "write /join CHANNEL: a channel name has"),
            ("/join a b", "write /join CHANNEL: a channel name has"),
            ("/create --private", "write /create [--private] CHANNEL: a channel name"),
            ("/create @alice+bob", "a direct channel needs no making: write /msg USER TEXT"),
            ("/msg", "write /msg USER TEXT: a user name has"),
            ("/msg alice hi", "that is you: write to somebody else"),
            ("/connect localhost", "write /connect IP:PORT: for example"),
            ("/history many", "write /history [COUNT]: for example"),
            ("/history 0", "write /history [COUNT]: for example"),
            (&long, "a message has at most 16384 bytes, this one has 16385: split it"),
            (&format!("/{long}"), "there is no command /xxxxxxxxxxxxxxxxxxxxxxxx: type"),
        ];
        for (line, start) in cases {
            let answer = parsed(line).unwrap_err();
            assert!(answer.starts_with(start), "{answer}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_understood() {
        for (form, _) in COMMANDS {
            let line = form.replace(['[', ']'], "").replace("IP:PORT", "127.0.0.1:1").replace("COUNT", "5");
            assert!(parsed(&line).is_ok(), "{line}");
        }
    }
}
