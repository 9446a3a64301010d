//! One running `weaprous`: its lines, its standard input, its end.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long any single line may take. Far above what is needed: it ends a broken run, it measures nothing.
const DEADLINE: Duration = Duration::from_secs(30);

/// A child process that is killed, at the latest, when this is dropped.
pub(crate) struct Weaprous {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Weaprous {
    /// Starts the binary with these arguments.
    pub(crate) fn start<S: AsRef<str>>(args: impl Iterator<Item = S>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weaprous"));
        command.args(args.map(|arg| arg.as_ref().to_owned()));
        Self::spawn(command)
    }

    /// As [`Weaprous::start`], with further variables in its environment.
    pub(crate) fn start_with<S: AsRef<str>>(args: impl Iterator<Item = S>, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weaprous"));
        command.args(args.map(|arg| arg.as_ref().to_owned())).envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// As [`Weaprous::start`], with at most so many files open unless it asks for more.
    pub(crate) fn start_with_files<S: AsRef<str>>(args: impl Iterator<Item = S>, open_files: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -S -n {open_files}; exec \"$0\" \"$@\"");
        command.args(["-c", script.as_str(), env!("CARGO_BIN_EXE_weaprous")]);
        command.args(args.map(|arg| arg.as_ref().to_owned()));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (sender, lines) = mpsc::channel();
        for pipe in [
            Box::new(child.stdout.take().expect("stdout is piped")) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().expect("stderr is piped")),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Self { child, stdin, lines, seen: Vec::new() }
    }

    /// Waits for a line of which `wanted` says yes, and returns it. Lines seen before count as well, once.
    ///
    /// # Panics
    /// After the deadline or at the process's end, with everything it printed.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        if let Some(at) = self.seen.iter().position(|line| wanted(line)) {
            return self.seen.remove(at);
        }
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; it printed:\n{}", self.seen.join("\n")),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {what}:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for a line that contains `part`.
    pub(crate) fn wait_for_text(&mut self, part: &str) -> String {
        self.wait_for(&format!("line with {part:?}"), |line| line.contains(part))
    }

    /// The address printed after `label`, as in `  page     http://127.0.0.1:8080`.
    pub(crate) fn address(&mut self, label: &str) -> SocketAddr {
        let line = self.wait_for(&format!("address of {label}"), |line| {
            line.trim_start().starts_with(label) && line.contains("http://")
        });
        let address =
            line.split("http://").nth(1).expect("the line has an address").trim().replace("localhost", "127.0.0.1");
        address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
    }

    /// Every line printed so far and not yet waited for.
    pub(crate) fn lines(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the process reads its input");
    }

    /// Ends it as `kill -9` and a power cut do: without a word.
    pub(crate) fn kill_9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill is there").success(), "the process is there to be signalled");
    }

    /// Its status, if it has ended.
    pub(crate) fn try_end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be looked at")
    }

    /// Waits for its end and returns the status and all it printed that nobody waited for.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; it printed:\n{}", self.seen.join("\n")),
            }
        }
        (self.child.wait().expect("the child can be waited for"), self.seen.join("\n"))
    }
}

impl Drop for Weaprous {
    fn drop(&mut self) {
        self.kill_9();
    }
}
