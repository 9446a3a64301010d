//! Ctrl-C and SIGTERM as a [`Stop`]: the first one asks the server to end, the second one ends the process.

use engine::Stop;
use std::io;

/// What a shell reports of a process that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A stop that fires at Ctrl-C, and where there is one at SIGTERM, which is what service managers send.
///
/// Signals are watched from before this returns, on a thread of its own, until the process ends. The first one fires the
/// stop; one that comes when the stop has fired ends the process at once, with exit code 130.
///
/// ```no_run
/// use weaprous::prelude::*;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let stop = weaprous::stop_at_signals()?;
///     let bound = App::new().route("/", [GET], async || "hello").prepare_address("127.0.0.1", 8001)?;
///     bound.run(stop.clone())?; // the stop is for whatever else is to end as well
///     Ok(())
/// }
/// ```
///
/// # Errors
/// The system does not let signals be watched, or threads be started.
pub fn stop_at_signals() -> io::Result<Stop> {
    let stop = Stop::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let mut signals = Signals::listen()?;
    drop(context);
    let told = stop.clone();
    let watch = async move {
        loop {
            signals.next().await;
            if told.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            told.cancel();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(watch))?;
    Ok(stop)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
