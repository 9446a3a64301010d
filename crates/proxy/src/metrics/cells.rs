//! Counters that many workers change and one reader adds up.
//!
//! Every thread has cells of its own, on cache lines of their own, and changes them with a plain load and store:
//! counting costs what adding to a field costs, and no worker waits for another. Reading adds the cells of all threads
//! up; it may miss what happens meanwhile, never anything that happened before.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Threads with cells of their own: more than machines have cores for one proxy. Later ones share the last.
const SLOTS: usize = 128;
/// The place of all threads beyond that.
const SHARED_SLOT: usize = SLOTS - 1;

/// Upper edges of the buckets of a `Histogram`, in microseconds: 100 µs to one minute.
pub(crate) const EDGES_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A number in one thread's cell. The thread it belongs to may change it, everybody may read it.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn add(&self, more: u64) {
        if slot() == SHARED_SLOT {
            self.0.fetch_add(more, Relaxed);
        } else {
            self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
        }
    }

    pub(crate) fn up(&self) {
        self.add(1);
    }

    /// Undoes one [`Number::up`]; for gauges, whose sum over all cells is right though a single one may have wrapped.
    pub(crate) fn down(&self) {
        self.add(u64::MAX);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How long things took: counts by bucket, the last one for all that took longer than the last edge.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [Number; EDGES_US.len() + 1],
    sum_us: Number,
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = EDGES_US.partition_point(|edge| *edge < took_us);
        self.counts[bucket].up();
        self.sum_us.add(took_us);
    }

    pub(crate) fn add_to(&self, sums: &mut Durations) {
        for (sum, count) in sums.counts.iter_mut().zip(&self.counts) {
            *sum += count.get();
        }
        sums.sum_us = sums.sum_us.wrapping_add(self.sum_us.get());
    }
}

/// What a `Histogram` held at one moment, over all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durations {
    counts: [u64; EDGES_US.len() + 1],
    sum_us: u64,
}

impl Durations {
    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// For each edge in seconds, how many took at most so long; the last edge is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let edges = EDGES_US.iter().map(|edge| *edge as f64 / 1e6).chain([f64::INFINITY]);
        edges.zip(self.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        }))
    }

    /// The duration in milliseconds that a share of all stays below, taken as evenly spread within its bucket; what
    /// took longer than the last edge counts as that. `None` when there is nothing.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let wanted = self.count() as f64 * share;
        let mut passed = 0.0;
        let mut low = 0.0;
        for (edge, count) in Self::edges_ms().zip(self.counts) {
            let count = count as f64;
            if count > 0.0 && passed + count >= wanted {
                return Some(low + (edge - low) * (wanted - passed) / count);
            }
            passed += count;
            low = edge;
        }
        (self.count() > 0).then_some(low)
    }

    /// The counts by bucket, in the order of [`Durations::edges_ms`]; the last one has no upper edge.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The upper edges of all buckets but the last, in milliseconds.
    pub fn edges_ms() -> impl Iterator<Item = f64> {
        EDGES_US.iter().map(|edge| *edge as f64 / 1e3)
    }
}

/// One set of cells per thread.
#[derive(Debug)]
pub(crate) struct PerThread<T>(Box<[OnceLock<Arc<Line<T>>>]>);

/// Keeps what different threads write on different cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(T);

impl<T> std::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Default> PerThread<T> {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| OnceLock::new()).collect())
    }

    /// The calling thread's cells. Only this thread may add to their numbers.
    pub(crate) fn mine(&self) -> &Arc<Line<T>> {
        self.0[slot()].get_or_init(Arc::default)
    }

    /// The cells of every thread that has any.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|cell| cell.get().map(|line| &line.0))
    }

    /// Adds one number of all cells up.
    pub(crate) fn sum(&self, number: impl Fn(&T) -> &Number) -> u64 {
        self.all().fold(0, |sum, cells| sum.wrapping_add(number(cells).get()))
    }
}

/// The calling thread's place among the cells. It is given back when the thread ends, so that the number of places
/// used is that of threads alive at a time; numbers in it go on from where they were.
fn slot() -> usize {
    thread_local! {
        static MINE: Place = Place::take();
    }
    // After the thread's own values are gone nothing is counted any more; if it is, then where all may write.
    MINE.try_with(|place| place.0).unwrap_or(SHARED_SLOT)
}

struct Place(usize);

static GIVEN_BACK: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Self {
        let free = GIVEN_BACK.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(free.unwrap_or_else(|| NEXT.fetch_add(1, Relaxed).min(SHARED_SLOT)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0 < SHARED_SLOT {
            GIVEN_BACK.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, Default)]
    struct Cells {
        seen: Number,
        open: Number,
    }

    #[test]
    fn what_threads_count_on_their_own_adds_up() {
        let cells = Arc::new(PerThread::<Cells>::new());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let cells = Arc::clone(&cells);
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        cells.mine().seen.up();
                        cells.mine().open.up();
                        cells.mine().open.down();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(cells.sum(|cells| &cells.seen), 80_000);
        assert_eq!(cells.sum(|cells| &cells.open), 0);
    }

    #[test]
    fn a_gauge_taken_down_elsewhere_still_adds_up() {
        let cells = Arc::new(PerThread::<Cells>::new());
        cells.mine().open.up();
        cells.mine().open.up();
        let other = Arc::clone(&cells);
        std::thread::spawn(move || other.mine().open.down()).join().unwrap();
        assert_eq!(cells.sum(|cells| &cells.open), 1);
    }

    #[test]
    fn more_threads_than_places_lose_nothing() {
        let cells = Arc::new(PerThread::<Cells>::new());
        let all_there = Arc::new(std::sync::Barrier::new(SLOTS + 20));
        let threads: Vec<_> = (0..SLOTS + 20)
            .map(|_| {
                let (cells, all_there) = (Arc::clone(&cells), Arc::clone(&all_there));
                std::thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn(move || {
                        slot();
                        all_there.wait();
                        (0..100).for_each(|_| cells.mine().seen.up());
                    })
                    .unwrap()
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(cells.sum(|cells| &cells.seen), 100 * (SLOTS as u64 + 20));
    }

    #[test]
    fn a_duration_falls_into_the_bucket_whose_edge_it_does_not_pass() {
        let histogram = Histogram::default();
        for took_us in [0, 100, 101, 1_000, 59_999_999, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(took_us));
        }
        let mut sums = Durations::default();
        histogram.add_to(&mut sums);
        assert_eq!(sums.counts()[0], 2, "0 and 100 µs");
        assert_eq!(sums.counts()[1], 1, "101 µs");
        assert_eq!(sums.counts()[3], 1, "1 ms");
        assert_eq!(sums.counts()[17], 2);
        assert_eq!(sums.counts()[18], 1, "longer than all edges");
        assert_eq!(sums.count(), 7);
        assert_eq!(sums.quantile_ms(0.99), Some(60_000.0));
        assert_eq!(sums.quantile_ms(2.0 / 7.0), Some(0.1));
        assert_eq!(Durations::default().quantile_ms(0.5), None);
        assert_eq!(sums.cumulative().last().unwrap(), (f64::INFINITY, 7));
        assert!((sums.sum_seconds() - 180.001_201).abs() < 1e-6, "{}", sums.sum_seconds());
    }
}
