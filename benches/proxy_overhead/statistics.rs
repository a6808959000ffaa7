//! Medians, intervals, and ratios that were measured in the same round.

/// The middle of some figures, and the interval that nine out of ten of them lie in.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Half of the figures are smaller.
    pub median: f64,
    /// One in twenty is smaller.
    pub low: f64,
    /// One in twenty is larger.
    pub high: f64,
}

impl Spread {
    /// The spread of at least one figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { median: quantile(&sorted, 0.5), low: quantile(&sorted, 0.05), high: quantile(&sorted, 0.95) }
    }

    /// The spread of `ours[i] / theirs[i]`: what drifts from round to round falls out.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
    }
}

/// The figure below which `share` of the sorted figures lie, interpolated.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}
