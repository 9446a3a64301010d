//! What was asked for on the command line.

use anyhow::{Context, Result, bail};

/// Options of every measurement; each uses those that mean something to it.
pub(crate) struct Options {
    /// Measured rounds per server and row.
    pub(crate) rounds: usize,
    /// Length of one round of load.
    pub(crate) seconds: u64,
    /// Connections of the load generator.
    pub(crate) connections: usize,
    /// Rows to measure; empty means all.
    only: Vec<String>,
    /// Servers to measure; empty means all that can do the row.
    peers: Vec<String>,
    /// Slow clients of the attack.
    pub(crate) clients: usize,
    /// A short run on debug builds that fails when something is wrong, not when something is slow.
    pub(crate) smoke: bool,
    /// Instructions and system calls instead of time.
    pub(crate) count: bool,
    /// Measure what is built already, whatever the sources say.
    pub(crate) built: bool,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let smoke = args.iter().any(|arg| arg == "--smoke");
        let mut options = Self {
            rounds: if smoke { 1 } else { 7 },
            seconds: if smoke { 1 } else { 3 },
            connections: if smoke { 8 } else { 64 },
            only: Vec::new(),
            peers: Vec::new(),
            clients: if smoke { 300 } else { 10_000 },
            smoke,
            count: false,
            built: false,
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            match name.as_str() {
                "--smoke" => continue,
                "--count" => {
                    options.count = true;
                    continue;
                }
                "--built" => {
                    options.built = true;
                    continue;
                }
                _ => {}
            }
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--rounds" => options.rounds = value.parse::<usize>()?.max(1),
                "--seconds" => options.seconds = value.parse::<u64>()?.max(1),
                "--connections" => options.connections = value.parse::<usize>()?.max(1),
                "--clients" => options.clients = value.parse::<usize>()?.max(4),
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--peers" => options.peers = value.split(',').map(str::to_owned).collect(),
                _ => bail!("unknown option {name} {value}; see bench/README.md"),
            }
        }
        Ok(options)
    }

    /// Whether the row is to be measured.
    pub(crate) fn wants_row(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }

    /// Whether the server is to be measured.
    pub(crate) fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == name)
    }

    /// Whether servers were chosen by name.
    pub(crate) fn names_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Fails on a name in `--only` or `--peers` that nothing has.
    pub(crate) fn check_names(&self, rows: &[&str], peers: &[&str]) -> Result<()> {
        for (asked, known, what) in [(&self.only, rows, "row"), (&self.peers, peers, "server")] {
            if let Some(unknown) = asked.iter().find(|name| !known.contains(&name.as_str())) {
                bail!("no {what} is called {unknown}; there are {}", known.join(", "));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> anyhow::Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_a_list_and_unknown_ones_are_refused() {
        let options = parse("--only plain,json --rounds 2 --smoke").expect("the options are known");
        assert!(options.wants_row("json") && !options.wants_row("new") && options.wants_peer("bare"));
        assert_eq!((options.rounds, options.smoke, options.names_peers()), (2, true, false));
        assert!(parse("--peers may").expect("the option is known").names_peers());
        assert!(options.check_names(&["plain", "json"], &[]).is_ok());
        assert!(options.check_names(&["plain"], &[]).is_err());
        assert!(parse("--rouns 2").is_err());
        assert!(parse("--rounds").is_err());
    }
}
