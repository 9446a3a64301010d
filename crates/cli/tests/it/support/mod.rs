//! Starting the binary, reading what it prints, and asking it over HTTP.

pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod process;

use process::Weaprous;
use std::net::SocketAddr;
use std::path::Path;

/// `weaprous up --demo` on free ports, with the addresses it printed.
pub(crate) struct Up {
    pub(crate) process: Weaprous,
    pub(crate) proxy: SocketAddr,
    pub(crate) backend: SocketAddr,
    pub(crate) tracker: SocketAddr,
}

impl Up {
    /// Starts it on `data_dir` and waits until it serves.
    pub(crate) fn start(data_dir: &Path) -> Self {
        let folder = data_dir.to_str().expect("a temporary folder's name is text");
        let ports = ["--proxy-port", "0", "--backend-port", "0", "--tracker-port", "0"];
        let mut process = Weaprous::start(["up", "--demo", "--data-dir", folder].iter().chain(&ports));
        let proxy = process.address("page");
        let backend = process.address("backend");
        let tracker = process.address("tracker");
        Self { process, proxy, backend, tracker }
    }
}

/// `weaprous tracker` alone.
pub(crate) struct Tracker {
    pub(crate) process: Weaprous,
    pub(crate) addr: SocketAddr,
}

impl Tracker {
    /// Starts it on `data_dir` at `port` (0 for a free one) and waits until it serves.
    pub(crate) fn start(data_dir: &Path, port: u16) -> Self {
        let folder = data_dir.to_str().expect("a temporary folder's name is text");
        let port = port.to_string();
        let mut process = Weaprous::start(["tracker", "--data-dir", folder, "--server-port", port.as_str()].iter());
        let addr = process.address("tracker");
        Self { process, addr }
    }

    /// Kills it as a power cut would and starts it again at the same address.
    pub(crate) fn kill_and_restart(mut self, data_dir: &Path) -> Self {
        self.process.kill_9();
        Self::start(data_dir, self.addr.port())
    }
}

/// `weaprous chat --plain`, with a folder of its own below `folder`.
pub(crate) struct Chat {
    pub(crate) process: Weaprous,
}

impl Chat {
    /// The address where other clients reach this one.
    pub(crate) fn listening(&mut self) -> SocketAddr {
        let line = self.process.wait_for_text("listens for peers at ");
        let address = line.split("listens for peers at ").nth(1).and_then(|rest| rest.split(' ').next());
        address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// Waits until the link to `user` is there and direct.
    pub(crate) fn linked_to(&mut self, user: &str) {
        self.process.wait_for(&format!("direct link to {user}"), |line| {
            line.starts_with("* ") && line.contains(user) && line.contains("direct")
        });
    }

    /// Waits for a message and returns the line.
    pub(crate) fn sees(&mut self, channel: &str, author: &str, text: &str) -> String {
        let start = format!("[{channel}] {author}: {text} (");
        self.process.wait_for(&format!("message {start:?}"), |line| line.starts_with(&start))
    }
}

/// Starts a terminal client in lines that goes on listening at the end of its input.
pub(crate) fn chat(name: &str, tracker: &str, folder: &Path, further: &[&str]) -> Chat {
    let folder = chat_folder(folder, name);
    let args =
        ["chat", "--username", name, "--peer-port", "0", "--tracker", tracker, "--plain", "--listen", "--verbose"];
    let data = ["--peer-ip", "127.0.0.1", "--data-dir", folder.as_str()];
    Chat { process: Weaprous::start(args.iter().chain(&data).chain(further)) }
}

/// Where `chat` keeps the things of `name`.
pub(crate) fn chat_folder(folder: &Path, name: &str) -> String {
    folder.join(format!("chat-{name}")).to_str().expect("a temporary folder's name is text").to_owned()
}
