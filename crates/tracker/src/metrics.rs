//! Counters, and their text in Prometheus' exposition format 0.0.4.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Media type of the text.
pub(crate) const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) messages_stored: Counter,
    pub(crate) relay_streams: Counter,
    pub(crate) relay_bytes: Counter,
    pub(crate) registrations: Counter,
}

/// What is true right now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) online_devices: usize,
    pub(crate) event_streams: usize,
    pub(crate) relay_open: usize,
    pub(crate) channels: usize,
    pub(crate) position: u64,
}

impl Metrics {
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let rows: [(&str, &str, &str, u64); 9] = [
            ("messages_stored_total", "counter", "Envelopes stored since the start.", self.messages_stored.count()),
            ("registrations_total", "counter", "Devices that registered since the start.", self.registrations.count()),
            (
                "relay_streams_total",
                "counter",
                "Streams joined by the relay since the start.",
                self.relay_streams.count(),
            ),
            ("relay_bytes_total", "counter", "Bytes passed on by the relay since the start.", self.relay_bytes.count()),
            ("relay_streams_open", "gauge", "Streams the relay holds open.", gauges.relay_open as u64),
            ("online_devices", "gauge", "Devices with a live lease.", gauges.online_devices as u64),
            ("event_streams", "gauge", "Open event streams.", gauges.event_streams as u64),
            ("channels", "gauge", "Channels in the log.", gauges.channels as u64),
            ("log_position", "gauge", "Position of the newest envelope.", gauges.position),
        ];
        let mut text = String::with_capacity(rows.len() * 128);
        for (name, kind, help, value) in rows {
            write!(text, "# HELP weaprous_{name} {help}\n# TYPE weaprous_{name} {kind}\nweaprous_{name} {value}\n")
                .expect("a string takes everything");
        }
        text
    }
}
