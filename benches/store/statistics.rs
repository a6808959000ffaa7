//! Numbers from numbers.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// What share `share` of the sorted `times` is at most.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let place = (times.len().saturating_sub(1) as f64 * share).round() as usize;
    times[place]
}

/// `p50 0.21 ms, p99 0.80 ms, max 3.10 ms`
pub fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |share| quantile(&times, share).as_secs_f64() * 1000.0;
    format!("p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms", ms(0.5), ms(0.99), ms(1.0))
}

/// How often a second a small write reaches the disk.
pub fn fsyncs(folder: &Path, span: Duration) -> f64 {
    let mut file = std::fs::File::create(folder.join("fsync")).unwrap();
    let (begin, mut count) = (Instant::now(), 0u32);
    while begin.elapsed() < span {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}
