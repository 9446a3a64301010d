//! What was typed, as types. Nothing here acts.

use crate::limits::Limits;
use certs::Name;
use chat::{ChannelName, UserName};
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// What holds for all subcommands.
const AFTER_HELP: &str = "\
To try everything: weaprous up --demo

WEAPROUS_LOG=info shows more of what happens, WEAPROUS_LOG=proxy=debug more of one part. WEAPROUS_DATA_DIR says \
where things are kept.

Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong arguments or configuration, 3 an address cannot be \
listened on, 4 the data directory cannot be used.";

/// A web server, a reverse proxy and a chat that keeps talking when its server is gone.
#[derive(Debug, Parser)]
#[command(name = "weaprous", version, propagate_version = true, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// What to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One subcommand each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Proxy, backend and tracker in one process: everything a team needs
    Up(Up),
    /// The pages behind a login, alone
    Backend(Backend),
    /// The reverse proxy, alone
    Proxy(Proxy),
    /// The tracker, alone: who is online, channels, the log of messages
    Tracker(Tracker),
    /// Looks for mistakes in a proxy configuration, and says what it would serve
    Check(Check),
    /// The chat client for terminals; talks directly to the others
    Chat(Chat),
    /// A folder on the network: a file server in one line, with a code for phones
    Serve(Serve),
    /// A certificate for this machine in its network, by an authority of its own
    Cert(Cert),
}

/// Arguments of `weaprous up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Adds the account admin/password and the channel general; loopback only
    #[arg(long)]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Address to listen on, for all three
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) server_ip: IpAddr,
    /// Port of the proxy, the one people open; 0 takes a free one
    #[arg(long, alias = "server-port", value_name = "PORT", default_value_t = 8080)]
    pub(crate) proxy_port: u16,
    /// Speaks https with a certificate for this network (see `weaprous cert`) or with that of --tls-cert; the proxy's
    /// port then explains how to trust it and leads there
    #[arg(long)]
    pub(crate) tls: bool,
    /// Port for https; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) tls_port: u16,
    #[command(flatten)]
    pub(crate) tls_files: TlsFiles,
    /// Port of the backend
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    pub(crate) backend_port: u16,
    /// Port of the tracker
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) tracker_port: u16,
    #[command(flatten)]
    pub(crate) site: SiteDirs,
    /// Opens the page in the default browser
    #[arg(long)]
    pub(crate) open: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Arguments of `weaprous backend`.
#[derive(Debug, Args)]
pub(crate) struct Backend {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) server_ip: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    pub(crate) server_port: u16,
    /// Believes this proxy about who its clients are (X-Forwarded-For), beside proxies on this machine; may be repeated
    #[arg(long, value_name = "IP")]
    pub(crate) trusted_proxy: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) data: DataDir,
    #[command(flatten)]
    pub(crate) site: SiteDirs,
    #[command(flatten)]
    pub(crate) tls: TlsFiles,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Arguments of `weaprous proxy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Proxy {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) server_ip: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) server_port: u16,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "config/proxy.conf")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) tls: TlsFiles,
    #[command(flatten)]
    pub(crate) operation: Operation,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// How a proxy is looked after.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Operation {
    /// Shows operators a page, /metrics and /api on this port; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    pub(crate) admin_port: Option<u16>,
    /// Address of the admin page; one that can be reached from elsewhere needs --admin-token-file and --admin-exposed
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) admin_ip: IpAddr,
    /// File with the token that the admin page asks for
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Says that the admin page is meant to be reached from other machines
    #[arg(long)]
    pub(crate) admin_exposed: bool,
    /// Notes every answer in this file; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// How a line of the access log looks: clf, common or json
    #[arg(long, value_name = "FORMAT", default_value = "clf")]
    pub(crate) log_format: proxy::LogFormat,
    /// Shows the values of queries in the access log, which may be secrets
    #[arg(long)]
    pub(crate) log_query: bool,
    /// Socket by which a next version asks for the listening sockets
    #[arg(long, value_name = "FILE")]
    pub(crate) control: Option<PathBuf>,
    /// Takes the listening sockets over from the proxy that runs with the same --control
    #[arg(long, requires = "control")]
    pub(crate) upgrade: bool,
    /// After a hand-over, or when a server is removed: seconds until what is still open is cut
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) drain_timeout: u64,
    /// Reads the configuration again on SIGHUP only, not when the file changes
    #[arg(long)]
    pub(crate) no_watch: bool,
}

/// Arguments of `weaprous check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "config/proxy.conf")]
    pub(crate) file: PathBuf,
    /// Prints one JSON object, for editors
    #[arg(long)]
    pub(crate) json: bool,
    /// Does not look at the files that it names, such as certificates: for a configuration of another machine
    #[arg(long)]
    pub(crate) no_files: bool,
}

/// Arguments of `weaprous tracker`.
#[derive(Debug, Args)]
pub(crate) struct Tracker {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) server_ip: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) server_port: u16,
    /// Believes this proxy about who its clients are (X-Forwarded-For), beside proxies on this machine; may be repeated
    #[arg(long, value_name = "IP")]
    pub(crate) trusted_proxy: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) data: DataDir,
    #[command(flatten)]
    pub(crate) tls: TlsFiles,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Arguments of `weaprous chat`.
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Your name on the tracker
    #[arg(long, value_name = "NAME")]
    pub(crate) username: UserName,
    /// Port where other clients reach this one; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 9101)]
    pub(crate) peer_port: u16,
    /// Address where other clients reach this one
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub(crate) peer_ip: IpAddr,
    /// The tracker, as http://ip:port or https://name:port (the proxy's address works too)
    #[arg(long, alias = "server", value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) tracker: String,
    /// With https: believes the authorities in this file (PEM) and no other [default: the public ones, and the one that
    /// `weaprous cert` made on this machine]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The channel to begin in
    #[arg(long, value_name = "NAME", default_value = "general")]
    pub(crate) channel: ChannelName,
    /// Lines instead of the full screen (chosen by itself in a pipe)
    #[arg(long)]
    pub(crate) plain: bool,
    /// Offers the local API (/connect-peer, /broadcast-peer, /send-peer) on this port of this machine; off by default
    #[arg(long, value_name = "PORT")]
    pub(crate) api_port: Option<u16>,
    /// With --plain: stay and listen after the end of the input
    #[arg(long)]
    pub(crate) listen: bool,
    /// With --plain: also tell what became of each message sent
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// File that holds the account's password, for a name that has one (or put it in `WEAPROUS_PASSWORD`)
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Where the device key and the history are kept [default: a folder per name below the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Arguments of `weaprous cert`.
#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// For all names and addresses of this machine; makes the authority, too, where there is none
    #[arg(long, required = true)]
    pub(crate) lan: bool,
    /// For this name or address, too; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<Name>,
    /// Keeps it in the folder `tls` of this data directory [default: ~/.local/share/weaprous/tls]
    #[arg(long, value_name = "DIR", env = "WEAPROUS_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Speaking TLS with certificates from files. They are loaded again when they change, and on SIGHUP.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_field_names, reason = "they are named after their flags")]
pub(crate) struct TlsFiles {
    /// Speaks TLS with this certificate and its chain (PEM); may be repeated: chosen by name, the first is the default
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Vec<PathBuf>,
    /// The private key of --tls-cert (PEM); as often as that, in the same order
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Vec<PathBuf>,
    /// Lets only clients in whose certificate was signed by one of these authorities (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// With --tls-client-ca: lets clients without a certificate in, too
    #[arg(long, requires = "tls_client_ca")]
    pub(crate) tls_client_optional: bool,
}

/// Arguments of `weaprous serve`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is one switch on the command line")]
pub(crate) struct Serve {
    /// The folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Port to listen on; 0 takes a free one
    #[arg(long, short, alias = "server-port", value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Address to listen on; 127.0.0.1 keeps it to this machine
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub(crate) server_ip: IpAddr,
    /// Asks for this name and password
    #[arg(long, value_name = "USER:PASSWORD", env = "WEAPROUS_SERVE_AUTH", hide_env_values = true)]
    pub(crate) auth: Option<String>,
    /// Lets people add files; never replaces one. On a network only together with --auth
    #[arg(long)]
    pub(crate) upload: bool,
    /// Longest upload in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) upload_mib_max: u32,
    /// What a folder's address shows [default: index.html]
    #[arg(long, value_name = "NAME")]
    pub(crate) index: Option<String>,
    /// Answers with the index where an address leads to nothing: for applications that route in the browser
    #[arg(long)]
    pub(crate) spa: bool,
    /// Shows files and folders whose name begins with a dot, too
    #[arg(long)]
    pub(crate) hidden: bool,
    /// Does not list folders that have no index
    #[arg(long)]
    pub(crate) no_listing: bool,
    /// Shows the code for phones also where the output is no terminal
    #[arg(long, conflicts_with = "no_qr")]
    pub(crate) qr: bool,
    /// Never shows the code for phones
    #[arg(long)]
    pub(crate) no_qr: bool,
    /// Writes the access log as JSON
    #[arg(long)]
    pub(crate) json_log: bool,
    /// Writes no access log
    #[arg(long, conflicts_with = "json_log")]
    pub(crate) quiet: bool,
    /// Speaks https with this machine's own certificate (see `weaprous cert`), or with that of --tls-cert
    #[arg(long)]
    pub(crate) tls: bool,
    /// With --tls and this machine's own certificate: port without encryption that explains how to trust it and leads to
    /// the other one; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) trust_port: u16,
    /// With --tls: this machine's certificate is in the folder `tls` of this one [default: ~/.local/share/weaprous]
    #[arg(long, value_name = "DIR", env = "WEAPROUS_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls_files: TlsFiles,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Where things are kept.
#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// Where accounts, channels and messages are kept [default: ~/.local/share/weaprous/server; with `up --demo` ~/.local/share/weaprous/demo]
    #[arg(long, value_name = "DIR", env = "WEAPROUS_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Serving the site from disk instead of from the binary.
#[derive(Debug, Args)]
pub(crate) struct SiteDirs {
    /// Serves the pages from this folder instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    pub(crate) www: Option<PathBuf>,
    /// Serves images and style sheets from this folder instead of the built-in ones
    #[arg(long = "static", value_name = "DIR")]
    pub(crate) static_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_port_is_server_port_for_every_server() {
        for program in ["up", "backend", "proxy", "tracker", "serve"] {
            let typed = ["weaprous", program, "--server-port", "4711"];
            let port = match Arguments::try_parse_from(typed).unwrap().command {
                Command::Up(args) => args.proxy_port,
                Command::Backend(args) => args.server_port,
                Command::Proxy(args) => args.server_port,
                Command::Tracker(args) => args.server_port,
                Command::Serve(args) => args.port,
                other => panic!("{program} is not {other:?}"),
            };
            assert_eq!(port, 4711, "{program}");
        }
    }

    #[test]
    fn the_help_says_how_to_see_more_and_what_exit_codes_mean() {
        let help = Arguments::command().render_help().to_string();
        assert!(help.contains("WEAPROUS_LOG=info") && help.contains("Exit codes: 0"), "{help}");
    }
}
